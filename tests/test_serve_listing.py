"""What a store says of itself over HTTP: manifest, parts, refusals and keys, in pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import xxhash

from featx.serve.mounted import Mounts
from tests.serving import COUNT, KEYS, REFUSALS, Server, make_stores, serving
from tests.store_oracle import KINDS, names

ORDERED = sorted(KEYS, key=str.encode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(Mounts.of(**make_stores(folder))) as running:
        yield running


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def paged(server: Server, path: str, rows: str, **query: object) -> tuple[list[Any], int]:
    """All rows of all pages, and how many pages there were."""
    found: list[Any] = []
    pages, after = 0, None
    while pages < 100:
        asked = {**query, **({} if after is None else {"after": after})}
        answer = server.ask("GET", path + "?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in asked.items()))
        assert answer.status == 200, answer.body
        found += answer.json[rows]
        after, pages = answer.json["next"], pages + 1
        if after is None:
            return found, pages
    raise AssertionError("there is no end")


def test_the_manifest_is_the_file_and_its_checksum_is_the_tag(server: Server, folder: Path, kind: str) -> None:
    answer = server.ask("GET", f"/v1/stores/{kind}")
    assert answer.body == (folder / f"{kind}.featx" / "manifest.json").read_bytes()
    data = json.loads(answer.body)
    checksum = data.pop("checksum")
    assert checksum == xxhash.xxh3_64_hexdigest(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())
    assert answer.headers["etag"] == f'"{checksum}"'
    assert answer.headers["featx-digest"] == data["totals"]["digest"]
    same = server.ask("GET", f"/v1/stores/{kind}", headers={"if-none-match": f'"{checksum}"'})
    assert (same.status, same.body) == (304, b"")


def test_parts_are_the_files(server: Server, folder: Path, kind: str) -> None:
    files = sorted((folder / f"{kind}.featx").glob("parts/*/part.json"))
    assert server.ask("GET", f"/v1/stores/{kind}/parts").json == {"parts": [json.loads(f.read_text()) for f in files]}


def test_all_stores_are_listed(server: Server) -> None:
    stores = server.ask("GET", "/v1/stores").json["stores"]
    assert [store["name"] for store in stores] == list(KINDS)
    for store in stores:
        assert (store["records"], store["refused"], store["complete"]) == (len(KEYS), len(REFUSALS), True)
        assert store["features"] == {"dtype": "float16", "dim": 96}
        assert store["pictures"] is False


@pytest.mark.parametrize("limit", [1, 3, len(KEYS), 1000])
def test_pages_of_keys_are_all_keys_in_the_order_of_their_bytes(server: Server, kind: str, limit: int) -> None:
    found, pages = paged(server, f"/v1/stores/{kind}/keys", "keys", limit=limit)
    assert found == ORDERED
    assert pages == -(-len(KEYS) // limit)


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_pages_in_the_order_of_the_source_list(server: Server, kind: str, limit: int) -> None:
    found, pages = paged(server, f"/v1/stores/{kind}/keys", "keys", limit=limit, order="source")
    assert found == KEYS
    assert pages == -(-len(KEYS) // limit)


def test_keys_behind_one_that_is_not_there(server: Server, kind: str) -> None:
    for after in ("", "8", ORDERED[4] + "0", ORDERED[4][:-1], "zzz", "z" * 300):
        if after:
            found = server.ask("GET", f"/v1/stores/{kind}/keys?after={quote(after, safe='')}").json["keys"]
            assert found == [key for key in ORDERED if key.encode() > after.encode()], after


def test_prefix_and_search_choose_keys(server: Server, kind: str) -> None:
    path = f"/v1/stores/{kind}/keys"
    prefix = ORDERED[6][:1]
    assert paged(server, path, "keys", prefix=prefix, limit=2)[0] == [k for k in ORDERED if k.startswith(prefix)]
    assert paged(server, path, "keys", prefix=ORDERED[6])[0] == [ORDERED[6]]
    assert paged(server, path, "keys", search="PICTURE 1", limit=3)[0] == [k for k in ORDERED if "picture 1" in k]
    assert paged(server, path, "keys", search="PICTURE 1", order="source")[0] == [k for k in KEYS if "picture 1" in k]
    assert server.ask("GET", f"{path}?search=nowhere").json == {"keys": [], "next": None}
    assert server.ask("GET", f"{path}?prefix=nowhere").json == {"keys": [], "next": None}


def test_refusals_come_in_pages(server: Server, kind: str) -> None:
    found, pages = paged(server, f"/v1/stores/{kind}/failures", "failures", limit=2)
    assert sorted(row["key"] for row in found) == sorted(REFUSALS)
    assert pages == -(-len(REFUSALS) // 2)
    first = next(row for row in found if row["key"] == REFUSALS[0])
    place = names(COUNT).index(REFUSALS[0])
    assert first == {"key": REFUSALS[0], "ordinal": place, "source": f"/photos/{REFUSALS[0]}", "reason": "empty",
                     "message": "the file has no bytes"}  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=a", "limit=10001", "limit=", "order=size", "order=source&after=a", "limit=1_0",
     "limit=%D9%A3", "after=a%0ab", "after=&order=source", "after=1.&order=source", "after=1.a&order=source"],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused(server: Server, query: str) -> None:
    answer = server.ask("GET", f"/v1/stores/lmdb/keys?{query}")
    assert (answer.status, set(answer.json)) == (400, {"error"})


def test_a_store_that_is_not_there_is_told(server: Server) -> None:
    for rest in ("", "/keys", "/parts", "/failures"):
        answer = server.ask("GET", f"/v1/stores/none{rest}")
        assert (answer.status, answer.json["error"]["code"]) == (404, "no_such_store")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_in_the_order_of_the_source_list_lose_no_record_of_a_merged_store(tmp_path: Path, limit: int) -> None:
    """Each of the lists that it was made of began at 0: several records have one ordinal."""
    from featx.store import create_store, open_part
    from tests.store_oracle import PROVENANCE, SCHEMA, record_of

    listed = [(0, "b"), (0, "a"), (1, "d"), (1, "c"), (1, "e"), (2, "f"), (3, "h"), (3, "g")]
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s", 0) as writer:
        for ordinal, key in listed:
            writer.put(key, record_of(key), ordinal)
        writer.finish()
    with serving(Mounts.of(s=tmp_path / "s")) as running:
        found, pages = paged(running, "/v1/stores/s/keys", "keys", limit=limit, order="source")
        searched = paged(running, "/v1/stores/s/keys", "keys", limit=limit, order="source", search="G")[0]
    assert found == ["a", "b", "c", "d", "e", "f", "g", "h"]
    assert pages == -(-len(listed) // limit)
    assert searched == ["g"]


def test_a_search_ends_in_either_order_and_the_next_page_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.serve import listing

    monkeypatch.setattr(listing, "SCANNED", 10)
    for order in ("key", "source"):
        found, pages = paged(server, "/v1/stores/lmdb/keys", "keys", search=KEYS[-1], order=order)
        assert (found, pages) == ([KEYS[-1]], -(-len(KEYS) // 10)), order
