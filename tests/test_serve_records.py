"""One record over HTTP: the bytes of the oracle, conditions and ranges of RFC 9110, and forms that others can read."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import xxhash
from safetensors.numpy import load

from featx.serve.mounted import Mounts
from tests.serving import KEYS, REFUSALS, Server, bytes_of, make_stores, path_of, serving
from tests.store_oracle import KINDS, make_store, names, record_of

KEY = KEYS[3]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Mounts.of(**make_stores(tmp_path_factory.mktemp("stores")))) as running:
        yield running


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def etag_of(record: bytes, key: str) -> str:
    """From FORMAT.md: xxh3_64 of the first 40 bytes and the payload, seeded by that of the key."""
    state = xxhash.xxh3_64(record[:40], seed=xxhash.xxh3_64_intdigest(key.encode()))
    state.update(record[48:])
    return f'"{state.hexdigest()}"'


def test_every_record_leaves_as_it_is_stored(server: Server, kind: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for key in KEYS:
            answer = server.ask_on(connection, "GET", path_of(kind, key))
            expected = bytes_of(key, KINDS[kind].schema)
            assert (answer.status, answer.body) == (200, expected)
            assert answer.headers["etag"] == etag_of(expected, key)
            assert answer.headers["content-type"] == "application/vnd.featx.record"
            assert answer.headers["content-length"] == str(len(expected))


def test_the_short_way_and_the_way_of_all_say_the_same(server: Server, kind: str) -> None:
    short = server.ask("GET", path_of(kind, KEY))
    long = server.ask("GET", path_of(kind, KEY), headers={"if-none-match": '"another"'})
    assert short == long


def test_requests_that_come_in_one_piece_are_answered_in_their_order(server: Server, kind: str) -> None:
    keys = [KEYS[0], REFUSALS[0], KEYS[1], KEYS[2]]
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.connect()
        lines = [f"GET {path_of(kind, key)} HTTP/1.1\r\nHost: localhost\r\n\r\n" for key in keys]
        connection.sock.sendall("".join(lines).encode())
        found = []
        file = connection.sock.makefile("rb")
        for _ in keys:
            status = int(file.readline().split()[1])
            length = 0
            while (line := file.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            found.append((status, file.read(length)))
        file.close()
    schema = KINDS[kind].schema
    assert [status for status, _ in found] == [200, 404, 200, 200]
    assert [body for status, body in found if status == 200] == [bytes_of(k, schema) for k in (KEYS[0], *KEYS[1:3])]


def test_head_is_get_without_the_body(server: Server, kind: str) -> None:
    got, head = (server.ask(method, path_of(kind, KEY)) for method in ("GET", "HEAD"))
    assert (head.status, head.body, head.headers) == (200, b"", got.headers)


def test_a_record_that_is_the_same_is_not_sent_again(server: Server, kind: str) -> None:
    whole = server.ask("GET", path_of(kind, KEY)).headers
    tag = whole["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = server.ask("GET", path_of(kind, KEY), headers={"if-none-match": header})
        assert (answer.status, answer.body) == (304, b"")
        for name in ("etag", "cache-control", "vary", "featx-digest"):  # RFC 9110, 15.4.5: as the whole would have them
            assert answer.headers[name] == whole[name]
    assert server.ask("GET", path_of(kind, KEY), headers={"if-none-match": '"other"'}).status == 200


def test_if_match_wants_that_record_and_no_other(server: Server) -> None:
    tag = server.ask("GET", path_of("lmdb", KEY)).headers["etag"]
    for header, status in ((tag, 200), ("*", 200), (f'"a", {tag}', 200), ('"other"', 412), (f"W/{tag}", 412)):
        assert server.ask("GET", path_of("lmdb", KEY), headers={"if-match": header}).status == status, header


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-47", slice(0, 48)),
        ("bytes=48-", slice(48, None)),
        ("bytes=-16", slice(-16, None)),
        ("bytes=-999999", slice(0, None)),
        ("bytes=10-999999", slice(10, None)),
        ("bytes=7-7", slice(7, 8)),
    ],
)
def test_a_range_is_that_part_of_the_bytes(server: Server, kind: str, header: str, part: slice) -> None:
    whole = bytes_of(KEY, KINDS[kind].schema)
    answer = server.ask("GET", path_of(kind, KEY), headers={"range": header})
    first, last, _ = part.indices(len(whole))
    assert (answer.status, answer.body) == (206, whole[part])
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(whole)}"


@pytest.mark.parametrize("header", ["bytes=999999-", "bytes=-0", "bytes=0-1,5-6"])
def test_a_range_that_cannot_be_sent_is_refused_with_the_length(server: Server, header: str) -> None:
    whole = bytes_of(KEY, KINDS["lmdb"].schema)
    answer = server.ask("GET", path_of("lmdb", KEY), headers={"range": header})
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(whole)}")


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=a-b", "bytes=-", "rows=0-1", "bytes"])
def test_a_range_that_means_nothing_is_passed_over(server: Server, header: str) -> None:
    answer = server.ask("GET", path_of("lmdb", KEY), headers={"range": header})
    assert (answer.status, answer.body) == (200, bytes_of(KEY, KINDS["lmdb"].schema))


def test_if_range_sends_all_of_another_record(server: Server) -> None:
    tag = server.ask("GET", path_of("lmdb", KEY)).headers["etag"]
    asked = {"range": "bytes=0-3"}
    assert server.ask("GET", path_of("lmdb", KEY), headers={**asked, "if-range": tag}).status == 206
    assert server.ask("GET", path_of("lmdb", KEY), headers={**asked, "if-range": '"x"'}).status == 200


def test_json_has_real_rows_and_features_when_asked(server: Server, kind: str) -> None:
    record = record_of(KEY, KINDS[kind].schema)
    plain = server.ask("GET", path_of(kind, KEY) + "?as=json")
    assert plain.headers["content-type"] == "application/json"
    assert plain.json["key"] == KEY
    assert plain.json["size"] == list(record.size)
    assert plain.json["fields"].keys() == {"boxes", "object_ids", "pooled"}
    np.testing.assert_array_equal(np.float32(plain.json["fields"]["boxes"]), record.boxes)
    whole = server.ask("GET", path_of(kind, KEY) + "?as=json&features=1").json
    np.testing.assert_array_equal(np.float16(whole["fields"]["features"]), record.features)
    some = server.ask("GET", path_of(kind, KEY) + "?as=json&fields=object_ids").json
    assert some["fields"].keys() == {"object_ids"}


def test_npz_and_safetensors_are_read_by_their_own_libraries(server: Server, kind: str) -> None:
    record = record_of(KEY, KINDS[kind].schema)
    npz = np.load(io.BytesIO(server.ask("GET", path_of(kind, KEY) + "?as=npz").body), allow_pickle=False)
    tensors = load(server.ask("GET", path_of(kind, KEY), headers={"accept": "application/x-safetensors"}).body)
    for name in record.names():
        np.testing.assert_array_equal(npz[name], record.array(name))
        np.testing.assert_array_equal(tensors[name], record.array(name))
    assert npz["size"].tolist() == list(record.size)


def test_a_form_is_the_same_bytes_each_time_under_a_tag_of_its_own(server: Server) -> None:
    tags = set()
    for form in ("record", "json", "npz", "safetensors"):
        one, two = (server.ask("GET", path_of("lmdb", KEY) + f"?as={form}") for _ in range(2))
        assert one == two
        tags.add(one.headers["etag"])
    assert len(tags) == 4


@pytest.mark.parametrize(
    ("accept", "kind_of"),
    [
        ("*/*", "application/vnd.featx.record"),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.5, */*;q=0.1", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/vnd.featx.record"),
        ("application/x-npz;q=0.2, application/octet-stream;q=0.9", "application/vnd.featx.record"),
    ],
)
def test_accept_chooses_the_form(server: Server, accept: str, kind_of: str) -> None:
    answer = server.ask("GET", path_of("lmdb", KEY), headers={"accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (200, kind_of)
    assert "accept" in answer.headers["vary"]


def test_what_cannot_be_sent_is_refused(server: Server) -> None:
    assert server.ask("GET", path_of("lmdb", KEY), headers={"accept": "text/html"}).status == 406
    assert server.ask("GET", path_of("lmdb", KEY), headers={"accept": "application/json;q=0"}).status == 406
    assert server.ask("GET", path_of("lmdb", KEY) + "?as=pickle").status == 400
    assert server.ask("GET", path_of("lmdb", KEY) + "?as=json&fields=nothing").status == 400


def test_a_key_that_is_not_there_and_one_that_was_refused_are_told_apart(server: Server, kind: str) -> None:
    unknown = server.ask("GET", path_of(kind, "nobody.jpg"))
    refused = server.ask("GET", path_of(kind, REFUSALS[0]))
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "not_found")
    assert (refused.status, refused.json["error"]["code"]) == (404, "refused")
    known = server.ask("HEAD", path_of(kind, KEY))
    assert known.headers["featx-digest"] == unknown.headers["featx-digest"] == refused.headers["featx-digest"]
    assert "the file has no bytes" in refused.json["error"]["message"]
    assert server.ask("GET", path_of("nothing", KEY)).json["error"]["code"] == "no_such_store"


@pytest.mark.parametrize(
    "key", ["../../../etc/passwd", "..%2f..", "/etc/passwd", "a\\b", "%00", "\u202e", "a?b#c", "x" * 5000, "é\u0301"]
)
def test_no_key_is_a_path(server: Server, key: str) -> None:
    answer = server.ask("GET", path_of("lmdb", key))
    assert answer.status == 404
    assert answer.json["error"]["code"] == "not_found"


def test_a_key_that_is_no_text_is_refused(server: Server) -> None:
    for raw in ("%ff%fe", "a%0ab", f"{quote(KEY, safe='')}%0a", "%7f", ""):
        assert server.ask("GET", f"/v1/stores/lmdb/records/{raw}").status == 400, raw


def test_keys_of_any_letters_are_found_in_either_form_of_unicode(tmp_path: Path) -> None:
    from featx.store import create_store, open_part

    schema = KINDS["lmdb"].schema
    keys = ["Straße/é ü.jpg", "100%/a+b&c=d?e#f.jpg", "写真/猫.png", "n" * 600]
    create_store(tmp_path / "s", "lmdb", schema, {})
    with open_part(tmp_path / "s") as writer:
        for number, key in enumerate(keys):
            writer.put(key, record_of(key, schema), number)
        writer.finish()
    with serving(Mounts.of(s=tmp_path / "s")) as server:
        for key in keys:
            for slash in ("", "/"):
                answer = server.ask("GET", f"/v1/stores/s/records/{quote(key, safe=slash)}")
                record = record_of(key, schema)
                assert answer.status == 200, key
                features = np.frombuffer(answer.body, "<f2", record.features.size, 48).reshape(record.features.shape)
                np.testing.assert_array_equal(features, record.features)
        decomposed = quote("Straße/e\u0301 u\u0308.jpg", safe="")
        assert server.ask("GET", f"/v1/stores/s/records/{decomposed}").status == 200


def test_records_of_an_unfinished_store_are_served(tmp_path: Path) -> None:
    from featx.store import create_store, open_part
    from tests.store_oracle import PROVENANCE, write_missing

    create_store(tmp_path / "s", "hdf5", KINDS["hdf5"].schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, list(enumerate(names(6))))
        with serving(Mounts.of(s=tmp_path / "s")) as server:
            answer = server.ask("GET", path_of("s", names(6)[2]))
            assert answer.body == bytes_of(names(6)[2], KINDS["hdf5"].schema)
            assert "featx-digest" not in answer.headers
            assert server.ask("GET", "/v1/stores").json["stores"][0]["complete"] is False


def test_damage_is_told_without_the_insides_of_the_server(tmp_path: Path) -> None:
    path = make_store(tmp_path / "secret-place", "lmdb", 6)
    file = next(path.rglob("records.lmdb"))
    record = bytes_of(names(6)[1], KINDS["lmdb"].schema, 6)
    data = bytearray(file.read_bytes())
    data[data.index(record)] ^= 0xFF  # the first byte of its magic
    file.write_bytes(data)
    with serving(Mounts.of(s=path)) as server:
        answer = server.ask("GET", path_of("s", names(6)[1]))
        assert (answer.status, answer.json["error"]["code"]) == (500, "damaged")
        assert b"secret-place" not in answer.body
        assert server.ask("GET", path_of("s", names(6)[2])).status == 200


def test_errors_are_json_everywhere(server: Server) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", path_of("lmdb", KEY), 405),
        ("PUT", "/healthz", 405),
    ):
        answer = server.ask(method, path)
        assert answer.status == status
        assert set(json.loads(answer.body)["error"]) == {"code", "message", "hint"}
    assert server.ask("DELETE", path_of("lmdb", KEY)).headers["allow"]
