"""Stores and processes: fork, pickling, parallel writers, locks, light imports."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from featx.errors import StoreError
from featx.store import create_store, open_part, open_store
from tests.forked import in_child
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of, write_missing

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that lives as long as the block."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize("partial", [False, True])
def test_a_store_opened_before_a_fork_works_in_the_children_and_in_the_parent(
    tmp_path: Path, backend: str, partial: bool
) -> None:
    path = tmp_path / "s"
    make_store(path, backend, 20, parts=2)
    if partial:
        for part in path.rglob("part.json"):
            part.unlink()
    store, stored = open_store(path, partial=partial), list(open_store(path, partial=partial))

    def check() -> None:
        for _ in range(3):
            assert all(store[key] == record_of(key) for key in stored)
            assert list(store) == stored

    assert [in_child(check) for _ in range(3)] == [0, 0, 0]
    check()


def test_children_read_while_the_parent_does(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "s", "lmdb", 20))
    stored = list(store)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(store[key] == record_of(key) for _ in range(20) for key in stored) else 1)
        children.append(child)
    assert all(store[key] == record_of(key) for _ in range(20) for key in stored)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_a_fork_leaves_the_writer_of_the_parent_alone(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a"), 0)
        writer.commit()

        def check() -> None:
            assert open_store(tmp_path / "s", partial=True)["a"] == record_of("a")
            with pytest.raises(StoreError, match=f"process {os.getppid()} on"):
                open_part(tmp_path / "s")

        assert in_child(check) == 0
        writer.put("b", record_of("b"), 1)
        writer.finish()
    assert list(open_store(tmp_path / "s")) == ["a", "b"]


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    code = (
        "import os, sys, time\nfrom featx.store import open_part\n"
        "writer = open_part(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n    print(os.getpid(), flush=True)\n"
        "time.sleep(30)"
    )
    with running("-c", code, str(tmp_path / "s")) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            open_part(tmp_path / "s").close()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_pickled_store_holds_its_path_alone_and_reads_in_a_fresh_interpreter(tmp_path: Path, backend: str) -> None:
    store = open_store(make_store(tmp_path / "s", backend, 5))
    assert store[names(1)[0]] == record_of(names(1)[0])
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    code = (
        "import pickle, sys\nfrom tests.store_oracle import names, record_of\n"
        "store = pickle.load(sys.stdin.buffer)\n"
        "assert all(store[key] == record_of(key) for key in names(5))"
    )
    subprocess.run([sys.executable, "-c", code], input=pickled, cwd=ROOT, check=True)
    assert len(pickle.loads(pickled)) == 5


def write_part(path: str, backend: str, part: int, parts: int, count: int) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE, parts=parts)
    with open_part(path, part) as writer:
        write_missing(writer, list(enumerate(names(count)))[part::parts])
        writer.finish()


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_parts_written_by_processes_at_once_make_the_same_store_as_one_process(tmp_path: Path, backend: str) -> None:
    context = multiprocessing.get_context("fork")
    arguments = [(str(tmp_path / "many"), backend, part, 6, 40) for part in range(6)]
    processes = [context.Process(target=write_part, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    store = open_store(tmp_path / "many")
    assert store.manifest.totals == open_store(make_store(tmp_path / "one", "lmdb", 40)).manifest.totals
    assert all(store[key] == record_of(key) for key in store)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_one_of_four_writers_dies_and_only_its_part_is_made_again(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "s"
    for part in (0, 1, 3):
        write_part(str(path), backend, part, 4, 40)
    child = os.fork()
    if child == 0:
        with open_part(path, 2) as writer:
            write_missing(writer, list(enumerate(names(40)))[2::4][:5])
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(StoreError, match="3 of 4 parts are done"):
        open_store(path)
    computed = []
    for part in range(4):
        with open_part(path, part) as writer:
            computed += write_missing(writer, list(enumerate(names(40)))[part::4])
            writer.finish()
    assert computed == names(40)[2::4][5:]
    store = open_store(path)
    assert store.manifest.totals == open_store(make_store(tmp_path / "one", "lmdb", 40)).manifest.totals
    assert all(store[key] == record_of(key) for key in store)


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=3)
    code = (
        "import sys, time\nfrom featx.store import open_part\n"
        "writer = open_part(sys.argv[1], 1)\nprint(flush=True)\ntime.sleep(30)"
    )
    with running("-c", code, str(tmp_path / "s")) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(StoreError) as caught:
            open_part(tmp_path / "s", 1)
        assert f"part 1 of 3 of {tmp_path / 's'}" in caught.value.message
        assert f"process {owner.pid} on {socket.gethostname()}" in caught.value.message
        open_part(tmp_path / "s", 2).close()  # another part is free
        owner.kill()
        owner.wait()
        open_part(tmp_path / "s", 1).close()  # a dead owner's lock is taken over


def test_one_process_cannot_write_a_part_twice_at_once(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s"), pytest.raises(StoreError, match=f"process {os.getpid()}"):
        open_part(tmp_path / "s")
    open_part(tmp_path / "s").close()


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_process_may_read_an_open_part_and_write_it(tmp_path: Path, backend: str) -> None:
    create_store(tmp_path / "s", backend, SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a"), 0)
    reader = open_store(tmp_path / "s", partial=True)
    with open_part(tmp_path / "s") as writer:
        writer.put("b", record_of("b"), 1)
        assert list(reader) == ["a"]
        writer.commit()
        assert list(reader) == ["a", "b"]
        writer.finish()
    assert reader["b"] == record_of("b")


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_reader_follows_a_writer_in_another_process(tmp_path: Path, backend: str) -> None:
    create_store(tmp_path / "s", backend, SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("first", record_of("first"), 0)
    reader = open_store(tmp_path / "s", partial=True)
    assert list(reader) == ["first"]

    def grow() -> None:
        with open_part(tmp_path / "s") as writer:
            write_missing(writer, enumerate(names(60), 1))

    assert in_child(grow) == 0
    assert len(reader) == 53
    assert all(reader[key] == record_of(key) for key in reader)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_reader_beside_a_writer_sees_whole_groups_only(tmp_path: Path, backend: str) -> None:
    create_store(tmp_path / "s", backend, SCHEMA, PROVENANCE)
    open_part(tmp_path / "s").close()
    child = os.fork()
    if child == 0:
        with open_part(tmp_path / "s") as writer:
            for place in range(0, 400, 5):
                for ordinal in range(place, place + 5):
                    writer.put(f"{ordinal:03}", record_of(f"{ordinal:03}"), ordinal)
                writer.commit()
        os._exit(0)
    seen, counts, done = 0, set(), False
    while not done:
        done = os.waitpid(child, os.WNOHANG)[0] != 0
        reader = open_store(tmp_path / "s", partial=True)
        keys = list(reader)
        counts.add(len(keys))
        assert len(keys) % 5 == 0
        assert len(keys) >= seen
        assert all(reader[key] == record_of(key) for key in keys[seen:])
        seen = len(keys)
    assert seen == 400
    assert len(counts) > 3


def test_an_abandoned_reader_in_a_killed_process_does_not_stop_the_writer(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a"), 0)
    code = (
        "import sys, time\nfrom featx.store import open_store\n"
        "keys = open_store(sys.argv[1], partial=True).keys()\nprint(next(keys), flush=True)\ntime.sleep(30)"
    )
    with running("-c", code, str(tmp_path / "s")) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "a\n"
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(20), 1))
        writer.finish()
    assert len(open_store(tmp_path / "s")) == 18


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_reading_a_record_imports_no_torch_and_only_the_backend_in_use(tmp_path: Path, backend: str) -> None:
    path = make_store(tmp_path / "s", backend, 3)
    code = (
        "import json, sys\nfrom featx.store import open_store, verify\n"
        "store = open_store(sys.argv[1])\nstore[next(store.keys())]\nverify(sys.argv[1])\n"
        "print(json.dumps([name for name in ('torch', 'h5py', 'lmdb') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "torch" not in loaded
    assert ("h5py" in loaded) == (backend == "hdf5")


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_threads_may_read_one_store_at_once(tmp_path: Path, backend: str) -> None:
    store = open_store(make_store(tmp_path / "s", backend, 20, parts=3))
    stored = list(store)
    with ThreadPoolExecutor(8) as pool:
        rounds = pool.map(lambda _: [store[key] for key in stored], range(24))
        for records in rounds:
            assert records == [record_of(key) for key in stored]


def test_looking_up_a_record_takes_microseconds_not_milliseconds(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "s", "lmdb", 20, parts=4))
    keys = list(store)
    best = min(_seconds(lambda: [store[key] for key in keys]) for _ in range(20)) / len(keys)
    assert best < 1e-3


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
