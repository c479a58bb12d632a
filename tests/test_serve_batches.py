"""Many records in one answer: frames taken apart by hand, in the order asked."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from featx.serve.mounted import Mounts
from tests.serving import KEYS, REFUSALS, Answer, Server, bytes_of, make_stores, path_of, serving
from tests.store_oracle import KINDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Mounts.of(**make_stores(tmp_path_factory.mktemp("stores"))), max_keys=50, max_body=10_000) as running:
        yield running


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames by the description in docs/serving.md, and nothing behind the last."""
    found, at = [], 0
    while True:
        kind, zero, length = struct.unpack_from("<IIQ", body, at)
        assert zero == 0
        data = body[at + 16 : at + 16 + length]
        assert len(data) == length
        end = at + 16 + length + -length % 16
        assert not any(body[at + 16 + length : end])
        at = end
        if kind == 0xE0F:
            assert struct.unpack("<Q", data)[0] == len(found)
            assert at == len(body)
            return found
        found.append((kind, data))


def post(server: Server, store: str, body: object) -> Answer:
    return server.ask("POST", f"/v1/stores/{store}/records", body)


def test_records_come_in_the_order_asked_and_as_often(server: Server, kind: str) -> None:
    keys = [KEYS[5], KEYS[0], KEYS[5], KEYS[-1]]
    answer = post(server, kind, {"keys": keys})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/vnd.featx.records"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["featx-digest"] == server.mounts[kind].manifest.totals.digest  # type: ignore[union-attr]
    assert frames(answer.body) == [(1, bytes_of(key, KINDS[kind].schema)) for key in keys]


def test_all_records_of_a_store_come_whole(server: Server, kind: str) -> None:
    found = frames(post(server, kind, {"keys": KEYS}).body)
    assert found == [(1, bytes_of(key, KINDS[kind].schema)) for key in KEYS]


def test_what_is_missing_is_said_in_its_place_and_fails_nothing_else(server: Server, kind: str) -> None:
    keys = ["nobody.jpg", KEYS[1], REFUSALS[0], "a\nb", "", KEYS[2]]
    found = frames(post(server, kind, {"keys": keys}).body)
    assert [number for number, _ in found] == [2, 1, 3, 2, 2, 1]
    assert found[1][1] == bytes_of(KEYS[1], KINDS[kind].schema)
    told = json.loads(found[2][1])
    assert told["key"] == REFUSALS[0]
    assert "the file has no bytes" in told["message"]
    assert json.loads(found[0][1])["key"] == "nobody.jpg"


def test_headers_only_are_the_first_48_bytes(server: Server, kind: str) -> None:
    found = frames(post(server, kind, {"keys": [KEYS[3], "no"], "only": "headers"}).body)
    assert found[0] == (1, bytes_of(KEYS[3], KINDS[kind].schema)[:48])
    assert found[1][0] == 2


def test_no_keys_make_an_answer_that_only_ends(server: Server) -> None:
    assert frames(post(server, "lmdb", {"keys": []}).body) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"keys": null}', b'{"keys": "a"}', b'{"keys": [1]}', b'{"keys": [["a"]]}', b"\xff",
     b'{"keys": ["a"], "only": "all"}', b"[" * 5000],
)  # fmt: skip
def test_a_body_that_says_no_keys_is_refused(server: Server, body: bytes) -> None:
    answer = server.ask("POST", "/v1/stores/lmdb/records", body, {"content-type": "application/json"})
    assert (answer.status, set(answer.json)) == (400, {"error"})


def test_another_type_is_refused(server: Server) -> None:
    answer = server.ask(
        "POST", "/v1/stores/lmdb/records", b"keys=a", {"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 415


def test_too_many_keys_and_too_long_a_body_are_refused(server: Server) -> None:
    answer = post(server, "lmdb", {"keys": ["a"] * 51})
    assert (answer.status, answer.headers["featx-max-keys"]) == (413, "50")
    assert server.ask("GET", "/v1/stores/lmdb").headers["featx-max-keys"] == "50"
    assert post(server, "lmdb", {"keys": ["a" * 11_000]}).status == 413


def test_no_more_is_read_than_so_many_keys_can_need(server: Server) -> None:
    """The limit of a body is that of pictures; a list of nothing would take many times its size in memory."""
    with serving(server.mounts, max_keys=10) as running:
        body = b'{"keys": [' + b"[]," * 100_000 + b"[]]}"
        assert running.ask("POST", "/v1/stores/lmdb/records", body, {"content-type": "application/json"}).status == 413
        assert post(running, "lmdb", {"keys": ["a" * 4000] * 10}).status == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: Server) -> None:
    import http.client
    from contextlib import closing

    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        pieces = (b'{"keys": ["' + b"a" * 4000 for _ in range(10))
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/stores/lmdb/records", pieces, headers, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_a_lone_surrogate_in_a_key_is_a_key_that_is_not_there(server: Server) -> None:
    body = b'{"keys": ["\\ud800", "\\u0000"]}'
    answer = server.ask("POST", "/v1/stores/lmdb/records", body, {"content-type": "application/json"})
    assert [number for number, _ in frames(answer.body)] == [2, 2]


def test_damage_is_said_in_its_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.store_oracle import make_store, names

    path = make_store(tmp_path_factory.mktemp("damaged") / "s", "lmdb", 6)
    file = next(path.rglob("records.lmdb"))
    data = bytearray(file.read_bytes())
    data[data.index(bytes_of(names(6)[1], KINDS["lmdb"].schema, 6))] ^= 0xFF
    file.write_bytes(data)
    with serving(Mounts.of(s=path)) as running:
        found = frames(post(running, "s", {"keys": names(6)[:3]}).body)
    assert [number for number, _ in found] == [1, 4, 1]
    assert str(path).encode() not in found[1][1]


def test_records_that_are_put_together_are_made_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow client must not make the server hold copies of all that it asked for."""
    from featx.serve.batches import Batch
    from featx.serve.mounted import Mounted
    from tests.store_oracle import make_store

    mounted = Mounted("s", make_store(tmp_path_factory.mktemp("arrays") / "s", "hdf5", 40, schema=KINDS["hdf5"].schema))
    batch = Batch.of(mounted, KEYS, False)
    assert not batch.whole
    made: list[bytes] = []
    find = type(mounted.reader).find
    monkeypatch.setattr(type(mounted.reader), "find", lambda self, key: made.append(key) or find(self, key))
    frames_made = batch.frames()
    first = next(frames_made)
    assert (first.kind, bytes(first.body)) == (1, bytes_of(KEYS[0], KINDS["hdf5"].schema))
    assert len(made) == 1
    assert [len(first.body), *(len(frame.body) for frame in frames_made)] == list(batch.sizes())


def test_a_reader_that_takes_nothing_makes_no_copies_of_all_it_asked_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small records are put together, which copies them: as they are taken, and not all at once."""
    import socket
    import time
    from contextlib import closing

    from featx.serve import batches

    made: list[int] = []

    def counted(pieces: Any) -> Iterator[Any]:
        for piece in sends(pieces):
            made.append(len(piece))
            yield piece

    def settled() -> int:
        last = -1
        while last != len(made):
            last = len(made)
            time.sleep(0.2)
        return sum(made)

    sends = batches.sends
    monkeypatch.setattr(batches, "sends", counted)
    with serving(server.mounts, max_keys=100_000, max_body=1 << 25) as running:
        keys = KEYS * 400
        body = json.dumps({"keys": keys}).encode()
        head = "POST /v1/stores/lmdb/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with closing(socket.create_connection(("127.0.0.1", running.port), timeout=30)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.recv(1)
            waiting = settled()
        assert waiting < 20_000_000  # what the sockets hold, and a little more
        assert settled() < waiting + 5_000_000  # nor is the rest made when the reader has gone
        made.clear()
        whole = post(running, "lmdb", {"keys": keys}).body
    assert len(whole) == sum(made) > 40_000_000
    assert [record for _, record in frames(whole)] == [bytes_of(k, KINDS["lmdb"].schema) for k in KEYS] * 400


def test_a_head_that_does_not_end_is_refused(server: Server) -> None:
    import socket
    from contextlib import closing

    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        try:
            for number in range(10_000):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"a" * 1000))
            answer = connection.recv(100)
        except OSError:  # it has hung up
            return
    assert answer.startswith(b"HTTP/1.1 400")


def test_a_request_that_comes_behind_a_batch_waits_for_its_turn(server: Server) -> None:
    """Both in one piece, as HTTP/1.1 allows: the batch is written whole, and the connection stays."""
    import socket
    from contextlib import closing

    body = json.dumps({"keys": KEYS[:3]}).encode()
    head = "POST /v1/stores/lmdb/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    batch = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    single = f"GET {path_of('lmdb', KEYS[4])} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        connection.sendall(batch + single + batch)
        with connection.makefile("rb") as file:
            answers = []
            for _ in range(3):
                assert file.readline().split()[1] == b"200"
                lines = iter(file.readline, b"\r\n")
                length = next(int(line.split(b":")[1]) for line in list(lines) if line.startswith(b"content-length:"))
                answers.append(file.read(length))
    schema = KINDS["lmdb"].schema
    assert [record for _, record in frames(answers[0])] == [bytes_of(key, schema) for key in KEYS[:3]]
    assert answers[1:] == [bytes_of(KEYS[4], schema), answers[0]]
