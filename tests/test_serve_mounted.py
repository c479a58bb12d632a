"""Stores that grow, are finished or replaced while they are served."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from featx.errors import StoreDamaged, StoreError, UsageError
from featx.serve import mounted
from featx.serve.mounted import Mounted, Mounts
from featx.store import create_store, open_part
from tests.serving import bytes_of, path_of, serving
from tests.store_oracle import KINDS, PROVENANCE, SCHEMA, make_store, names, write_missing


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files every time."""
    monkeypatch.setattr(mounted, "EVERY", 0.0)
    monkeypatch.setattr(mounted, "_SHARE", 0)


def replace(path: Path, by: Path) -> None:
    """Put another store in the place of one, as people do it."""
    path.rename(path.with_name("old"))
    by.rename(path)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_store_that_was_replaced_is_the_new_one(tmp_path: Path, kind: str) -> None:
    backend, schema = KINDS[kind]
    path = make_store(tmp_path / "s", backend, 10, schema=schema)
    other = make_store(tmp_path / "t", backend, 20, schema=schema)
    with serving(Mounts.of(s=path)) as server:
        before = server.ask("GET", "/v1/stores/s").headers
        assert server.ask("GET", path_of("s", names(20)[15])).status == 404
        replace(path, other)
        answer = server.ask("GET", path_of("s", names(20)[15]))
        assert (answer.status, answer.body) == (200, bytes_of(names(20)[15], schema, 20))
        after = server.ask("GET", "/v1/stores/s").headers
        assert after["featx-digest"] != before["featx-digest"]
        assert answer.headers["featx-digest"] == after["featx-digest"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_store_that_went_away_is_served_until_another_is_there(tmp_path: Path, kind: str) -> None:
    backend, schema = KINDS[kind]
    path = make_store(tmp_path / "s", backend, 10, schema=schema)
    with serving(Mounts.of(s=path)) as server:
        expected = bytes_of(names(10)[1], schema, 10)
        assert server.ask("GET", path_of("s", names(10)[1])).body == expected
        shutil.rmtree(path)
        for _ in range(3):
            assert server.ask("GET", path_of("s", names(10)[1])).body == expected
        ready = server.ask("GET", "/readyz")
        assert (ready.status, len(ready.json["notes"])) == (200, 1)
        assert server.ask("GET", path_of("s", "nobody")).status in (404, 503)
        make_store(path, backend, 20, schema=schema)
        assert server.ask("GET", path_of("s", names(20)[15])).status == 200
        assert server.ask("GET", "/readyz").json["notes"] == []


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_store_grows_while_it_is_served(tmp_path: Path, backend: str) -> None:
    path, keys = tmp_path / "s", names(6)
    create_store(path, backend, SCHEMA, PROVENANCE, parts=2)
    with serving(Mounts.of(s=path)) as server:
        assert server.ask("GET", path_of("s", keys[0])).status == 404
        with open_part(path, 0) as writer:
            write_missing(writer, list(enumerate(keys))[:3])
            assert server.ask("GET", path_of("s", keys[0])).body == bytes_of(keys[0], SCHEMA, 6)
            writer.finish()
        assert server.ask("GET", path_of("s", keys[2])).body == bytes_of(keys[2], SCHEMA, 6)
        assert server.ask("GET", "/v1/stores/s").json["complete"] is False
        with open_part(path, 1) as writer:
            write_missing(writer, list(enumerate(keys))[3:])
            writer.finish()
        answer = server.ask("GET", path_of("s", keys[4]))
        assert (answer.body, "featx-digest" in answer.headers) == (bytes_of(keys[4], SCHEMA, 6), True)
        assert server.ask("GET", "/v1/stores/s").json["complete"] is True


def test_no_request_fails_while_stores_are_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "s"
    make_store(path, "lmdb", 12)
    others = [make_store(tmp_path / f"n{i}", "lmdb" if i % 2 else "hdf5", 12) for i in range(6)]
    statuses: set[int] = set()
    expected = bytes_of(names(12)[3], SCHEMA, 12)
    with serving(Mounts.of(s=path)) as server:
        going = threading.Event()

        def exchange() -> None:
            for number, other in enumerate(others):
                going.wait()
                path.rename(tmp_path / f"gone{number}")
                other.rename(path)
                if number % 2:
                    shutil.rmtree(tmp_path / f"gone{number}")

        thread = threading.Thread(target=exchange)
        thread.start()
        going.set()
        while thread.is_alive() or len(statuses) == 0:
            answer = server.ask("GET", path_of("s", names(12)[3]))
            statuses.add(answer.status)
            assert answer.body == expected
            statuses.add(server.ask("POST", "/v1/stores/s/records", {"keys": names(12)[:3]}).status)
            assert server.ask("GET", path_of("s", "nobody")).status in (404, 503)
        thread.join()
    assert statuses == {200}


def test_a_store_is_looked_at_once_in_a_second_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(mounted, "monotonic", lambda: now)
    monkeypatch.setattr(mounted, "EVERY", 1.0)
    store = Mounted("s", make_store(tmp_path / "s", "lmdb", 4))
    other = make_store(tmp_path / "t", "lmdb", 8)
    assert len(store.reader) == 4
    replace(store.path, other)
    now += 0.9
    assert len(store.reader) == 4
    now += 0.2
    assert len(store.reader) == 7  # one in seven is refused


def test_a_reader_that_is_in_use_stays_whole_when_the_store_is_gone(tmp_path: Path) -> None:
    store = Mounted("s", make_store(tmp_path / "s", "lmdb", 10))
    held = store.spans.find(names(10)[2])
    replace(store.path, make_store(tmp_path / "t", "lmdb", 10, schema=KINDS["hdf5-fixed"].schema))
    shutil.rmtree(tmp_path / "old")
    assert store.renew()
    assert held is not None
    assert bytes(held) == bytes_of(names(10)[2], SCHEMA, 10)


def test_whoever_meets_damage_waits_for_the_one_who_opens_the_new_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Mounted("s", make_store(tmp_path / "s", "lmdb", 10))
    before = store.spans
    replace(store.path, make_store(tmp_path / "t", "lmdb", 20))
    begun, go, opens = threading.Event(), threading.Event(), mounted.open_store

    def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(30)
        return opens(*arguments, **options)

    monkeypatch.setattr(mounted, "open_store", slow)
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(store.renew)
        assert begun.wait(30)
        failed = pool.submit(store.again, before)
        with pytest.raises(TimeoutError):
            failed.result(0.1)
        go.set()
        assert (opening.result(30), failed.result(30)) == (True, True)
    assert store.spans is not before
    assert store.again(before)  # whoever comes later is told the same
    assert not store.again(store.spans)


def test_a_superset_is_served_as_the_view_that_its_place_names(tmp_path: Path) -> None:
    from featx.store import open_store
    from tests.test_view import extractor, stored

    path = stored(tmp_path / "s", extractor("caffe-36", superset=60, switches={"post_nms": 60}))
    with open_store(path, view={"boxes": 12}) as view, serving(Mounts.of(v={"path": str(path), "boxes": 12})) as server:
        key = next(view.keys())
        assert server.ask("GET", path_of("v", key)).body == view.stored_bytes(key)
        assert server.ask("GET", "/v1/stores/v").json["schema"]["rows"] == 12
        assert server.ask("GET", "/v1/stores/v/keys").json["keys"] == list(view)


def test_what_is_no_store_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        _ = Mounted("s", tmp_path / "nothing").reader
    for name in ("", "a/b", "..", "a b", "é"):
        with pytest.raises(UsageError, match="cannot be the name"):
            Mounted(name, tmp_path)
    with pytest.raises(UsageError, match="two stores"):
        Mounts([Mounted("a", tmp_path), Mounted("a", tmp_path / "b")])


def test_a_store_that_is_replaced_while_it_is_opened_is_opened_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = make_store(tmp_path / "s", "lmdb", 10), make_store(tmp_path / "t", "hdf5", 20)
    real, tries = mounted.open_store, []

    def opening(*args: Any, **options: Any) -> Any:
        tries.append(args)
        if len(tries) == 1:  # the manifest of one, the parts of the other
            replace(path, other)
            raise StoreDamaged("its files hold 0 records, its part.json says 10", "extract again")
        return real(*args, **options)

    monkeypatch.setattr(mounted, "open_store", opening)
    store = Mounted("s", str(path))
    assert store.reader.manifest.backend == "hdf5"
    assert store.trouble is None
    assert len(tries) == 2
