"""Moments at which a writer or a reader is interrupted, refused or overtaken: what it says afterwards is true."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featx.errors import FeatxError, StoreDamaged
from featx.schema import Schema
from featx.store import create_store, disk, hdf5_arrays, hdf5_sealed, hdf5_store, open_part, open_store, verify
from featx.store.groups import Group, Groups
from featx.store.lock import Lock
from featx.store.log import RecordLog
from featx.store.log_shard import LogShard
from featx.store.manifest import part_folder
from tests.store_oracle import FIXED, PROVENANCE, SCHEMA, make_store, names, record_of

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begun(path: Path, backend: str) -> Path:
    create_store(path, backend, SCHEMA, PROVENANCE)
    return path


def test_a_writer_is_not_closed_before_its_thread_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits: who closes gives the lock up, and another writer may begin."""
    go, ended = threading.Event(), threading.Event()

    def append(group: Group) -> None:
        go.wait(10)
        ended.set()

    groups, interrupts = Groups(append, 1), iter([True])
    groups.add(b"a", b"record", None)
    assert groups._thread is not None
    shutdown = groups._thread.shutdown

    def interrupted(wait: bool = True) -> None:
        if next(interrupts, False):
            threading.Timer(0.2, go.set).start()
            raise KeyboardInterrupt
        shutdown(wait)

    monkeypatch.setattr(groups._thread, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        groups.close()
    assert ended.is_set()


def test_what_a_group_before_failed_of_is_raised_before_the_record_is_taken() -> None:
    kept: list[Mapping[bytes, Any]] = []

    def append(group: Group) -> None:
        if not kept:
            kept.append({})
            raise FULL
        kept.append(dict(group.records))

    groups = Groups(append, 1)
    groups.add(b"a", b"record a", None)
    with pytest.raises(OSError, match="No space"):
        groups.add(b"b", b"record b", None)
    assert b"b" not in groups
    groups.add(b"b", b"record b", None)
    groups.commit()
    assert kept[-1].keys() == {b"a", b"b"}
    groups.close()


def test_a_part_whose_manifest_could_not_be_published_is_not_said_to_be_finished(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(tmp_path / "s", backend)
    writer = open_part(store)
    writer.put("a", record_of("a"), 0)

    def full(path: Path, data: bytes) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(disk, "publish", full)
        with pytest.raises(FeatxError, match="No space"):
            writer.finish()
    assert writer.finished is None
    with pytest.raises(FeatxError, match="open it again"):
        writer.finish()
    writer.close()
    with open_part(store) as again:
        assert "a" in again.done
        again.finish()
    assert list(open_store(store)) == ["a"]


def test_a_segment_that_cannot_be_sealed_leaves_the_group_to_be_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(tmp_path / "s", "hdf5")
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 1)
    with open_part(store) as writer:
        writer.put("a", record_of("a"), 0)
        writer.commit()
        writer.put("b", record_of("b"), 1)
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise RuntimeError("unable to extend the file")

            patch.setattr(hdf5_arrays, "_write", full)
            with pytest.raises(FeatxError, match="unable to extend"):
                writer.commit()
        writer.commit()  # when there is room again
        writer.finish()
    assert list(open_store(store)) == ["a", "b"]
    assert verify(store).ok


def test_threads_may_share_the_reader_of_a_part_that_grows(tmp_path: Path, backend: str) -> None:
    store = begun(tmp_path / "s", backend)
    keys = names(120)
    with open_part(store) as writer:
        writer.put(keys[0], record_of(keys[0]), 0)
        writer.commit()
        with open_store(store, partial=True) as reader, ThreadPoolExecutor(4) as pool:
            for number, key in enumerate(keys[1:], 1):
                writer.put(key, record_of(key), number)
                writer.commit()
                assert all(found == record_of(key) for found in pool.map(lambda _, k=key: reader[k], range(4)))


def test_a_reader_notices_that_what_it_saw_was_cut_off(tmp_path: Path) -> None:
    """A sync fails, the writer cuts the group off and commits another one in its place."""
    path = tmp_path / "records.log"
    one, two = ({key: _stored(key)} for key in (b"a", b"b"))
    log = RecordLog(path)
    log.append(one)
    end = log.size
    log.append(two)
    reader = LogShard(path, SCHEMA)
    assert list(reader) == [b"a", b"b"]
    disk.resize(path, end)
    again = RecordLog(path)
    again.append({b"c": _stored(b"c"), **two})
    assert reader.get(b"c") == _stored(b"c")
    assert list(reader) == [b"a", b"b", b"c"]
    assert reader.get(b"b") == _stored(b"b")
    disk.resize(path, end)
    RecordLog(path).append({b"d": _stored(b"d")})
    assert b"c" not in list(reader), "also when the file is as long as it was"
    reader.close()


def _stored(key: bytes) -> bytes:
    from featx.codec import encode

    return encode(record_of(key.decode()), SCHEMA, key, 0)


@pytest.mark.parametrize("schema", [SCHEMA, FIXED], ids=["arrays", "in place"])
def test_a_reader_that_opens_while_a_segment_is_sealed_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Schema
) -> None:
    store = tmp_path / "s"
    create_store(store, "hdf5", schema, PROVENANCE)
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 1)
    listed = hdf5_store._segments
    with open_part(store) as writer:
        for number, key in enumerate("ab"):
            writer.put(key, record_of(key, schema), number)
        writer.commit()
        pending = iter([True])

        def overtaken(folder: Path) -> list[Path]:
            found = listed(folder)
            if next(pending, False):  # behind the look at the files and before that at the log
                writer.put("c", record_of("c", schema), 2)
                writer.commit()
            return found

        monkeypatch.setattr(hdf5_store, "_segments", overtaken)
        with open_store(store, partial=True) as reader:
            assert list(reader) == ["a", "b", "c"]


def test_the_files_of_an_open_part_are_let_go_of_when_its_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(tmp_path / "s", "hdf5")
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 1)
    with open_part(store) as writer:
        for number, key in enumerate("abc"):
            writer.put(key, record_of(key), number)
            writer.commit()
    first, second = sorted(store.rglob("*.h5"))
    log = first.parent / "records.log"
    log.unlink()
    log.mkdir()
    with pytest.raises(IsADirectoryError) as error:
        hdf5_store.open_shards(first.parent, SCHEMA, sealed=False)
    maps = Path("/proc/self/maps").read_text()
    assert str(first) not in maps
    assert str(second) not in maps
    assert error.tb is not None  # which keeps alive all that was not closed


def test_a_writer_whose_last_commit_fails_lets_go_of_the_part(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(tmp_path / "s", backend)

    def full(*_: object) -> None:
        raise FULL

    def write() -> None:
        with open_part(store) as writer:
            writer.put("a", record_of("a"), 0)
            monkeypatch.setattr(disk, "extend", full)

    with pytest.raises(FeatxError, match="No space"):
        write()
    monkeypatch.undo()
    with open_part(store) as writer:
        assert "a" not in writer.done


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_lock_that_cannot_say_who_holds_it_is_held_and_given_up(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        lock = Lock(tmp_path / ".lock", "it")
        with pytest.raises(FeatxError, match="is being written"):
            Lock(tmp_path / ".lock", "it")
        lock.release()
    Lock(tmp_path / ".lock", "it").release()


@pytest.mark.parametrize("schema", [SCHEMA, FIXED], ids=["arrays", "in place"])
@pytest.mark.parametrize("spoil", ["empty", "group", "chunks", "gone"])
def test_an_hdf5_file_with_another_structure_is_damaged_and_no_traceback(
    tmp_path: Path, spoil: str, schema: Schema
) -> None:
    store = make_store(tmp_path / "s", "hdf5", 3, schema=schema)
    path, name = next(store.rglob("*.h5")), "offset" if schema.rows else "start"
    with h5py.File(path, "r+") as file:
        data = file[name][()]
        del file[name]
        if spoil == "empty":
            file[name] = np.empty(0, data.dtype)
        elif spoil == "chunks":
            file.create_dataset(name, data=data, chunks=(1,))
        elif spoil == "group":
            file.create_group(name)
    with pytest.raises(StoreDamaged):
        hdf5_sealed.open_file(path, schema)
    assert not verify(store).ok


def test_a_schema_of_another_process_is_the_same_key(tmp_path: Path) -> None:
    """The hashes of names are salted: each process has its own."""
    (tmp_path / "schema").write_bytes(pickle.dumps(SCHEMA))
    code = (
        "import pickle, sys; from tests.store_oracle import SCHEMA\n"
        "assert {SCHEMA: 1}[pickle.load(open(sys.argv[1], 'rb'))] == 1"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "schema")],
        env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=Path(__file__).resolve().parent.parent, check=True,
    )  # fmt: skip


def test_the_hash_of_a_resumed_lmdb_part_is_spelled_as_that_of_one_written_at_once(tmp_path: Path) -> None:
    store = begun(tmp_path / "s", "lmdb")
    for number, key in enumerate("ab"):
        with open_part(store) as writer:
            writer.put(key, record_of(key), number)
    with open_part(store) as writer:
        part = writer.finish()
    assert part.hashes["records.lmdb"].startswith("tail:")
    assert verify(store).ok
    assert (part_folder(store, 0, 1) / "records.lmdb").exists()
