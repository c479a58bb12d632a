"""A run killed at any moment resumes by itself and ends with the same content.

The oracle is ``tests.store_oracle``: every record can be computed from its key, so nothing that is wrong can pass.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featx.errors import FeatxError
from featx.store import create_store, disk, hdf5_store, open_part, open_store, verify
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of, write_missing

ROOT = Path(__file__).resolve().parent.parent
COUNT = 10
LONG = 200  # pictures in the runs that are killed at random moments
ROUNDS = 6
STEPS = ("write", "sync", "rename", "remove", "resize")


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check_whole(path: Path, undisturbed: Path) -> None:
    """The store is complete, sound, and has the content of one that was never disturbed."""
    store, calm = open_store(path), open_store(undisturbed)
    assert store.manifest == calm.manifest
    assert list(store.keys("source")) == list(calm.keys("source"))
    assert sorted(store.failures()) == sorted(calm.failures())
    assert all(store[key] == record_of(key) for key in store)
    assert verify(path).problems == []


def check_committed(path: Path, acknowledged: list[str]) -> None:
    """After a kill: what was acknowledged is there, what is there is right."""
    if not (path / "manifest.json").exists():
        assert not acknowledged
        return
    store = open_store(path, partial=True)
    known = {*store, *(refusal.key for refusal in store.failures())}
    assert known >= set(acknowledged)
    assert all(store[key] == record_of(key) for key in store)
    assert verify(path).problems == []


def run_and_kill(path: Path, backend: str, lines: int, delay: float) -> list[str]:
    """Start the writer, kill it ``delay`` seconds after it said ``lines`` lines. Returns the keys it acknowledged."""
    command = [sys.executable, "-m", "tests.store_oracle", str(path), backend, str(LONG)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    said += process.communicate()[0].splitlines(keepends=True)
    whole = [line.strip() for line in said if line.endswith("\n")]
    assert "finished" not in whole, "killed too late to test anything"
    return [line for line in whole if line != "opened"]


def test_killed_at_random_moments_a_writer_loses_nothing_and_ends_the_same(tmp_path: Path, backend: str) -> None:
    calm = make_store(tmp_path / "calm", backend, LONG)
    path, rng = tmp_path / "s", random.Random(7)
    acknowledged: list[str] = []
    for _ in range(ROUNDS):
        said = run_and_kill(path, backend, rng.randrange(1, 30), rng.random() * 0.005)
        assert not set(said) & set(acknowledged), "a committed picture was computed again"
        acknowledged += said
        check_committed(path, acknowledged)
    subprocess.run([sys.executable, "-m", "tests.store_oracle", path, backend, str(LONG)], cwd=ROOT, check=True)
    assert len(acknowledged) > ROUNDS
    check_whole(path, calm)


def write_store(path: Path, backend: str) -> None:
    """One whole run, from nothing or from wherever the last one stopped, with a retry of refused pictures on top."""
    create_store(path, backend, SCHEMA, PROVENANCE, parts=2)
    for part in range(2):
        with open_part(path, part) as writer:
            write_missing(writer, list(enumerate(names(COUNT)))[part::2], group=4)
            writer.finish()


def dying(step: str, when: str, count: list[int]) -> Callable[..., None]:
    """A step of the disk that kills the process before or after it, or with half of it written, as the ``count``-th."""
    real = getattr(disk, step)

    def stand_in(path: Path, *rest: Any) -> None:
        count[0] -= 1
        if count[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if count[0] == 0 and when == "halfway" and step == "write":
            rest = (rest[0][: len(rest[0]) // 2], *rest[1:])
        real(path, *rest)
        if count[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return stand_in


def killed_at(number: int, when: str, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that dies at its ``number``-th step. False when it came to its end."""
    child = os.fork()
    if child == 0:
        count = [number]
        for step, stand_in in [(step, dying(step, when, count)) for step in STEPS]:
            setattr(disk, step, stand_in)
        try:
            work()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("when", ["before", "halfway"])
def test_killed_at_every_step_of_the_disk_a_run_resumes_to_the_same_end(
    tmp_path: Path, backend: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 15_000)  # several seals per part
    write_store(tmp_path / "calm", backend)
    number = 1
    while killed_at(number, when, lambda path=tmp_path / str(number): write_store(path, backend)):  # type: ignore[misc]
        path = tmp_path / str(number)
        check_committed(path, [])
        write_store(path, backend)
        check_whole(path, tmp_path / "calm")
        shutil.rmtree(path)
        number += 1
    assert number > 15
    check_whole(tmp_path / str(number), tmp_path / "calm")


def test_killed_at_step_after_step_of_one_run_it_still_ends_the_same(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 15_000)
    write_store(tmp_path / "calm", backend)
    deaths = 0
    while killed_at(3 + deaths, "after", lambda: write_store(tmp_path / "s", backend)):
        deaths += 1
    assert deaths >= 3
    check_whole(tmp_path / "s", tmp_path / "calm")


def test_killed_while_retrying_refused_pictures_nothing_is_lost(tmp_path: Path, backend: str) -> None:
    good = make_store(tmp_path / "good", backend, COUNT)

    def retry(path: Path) -> None:
        with open_part(path, retry_refused=True) as writer:
            for ordinal, name in enumerate(names(COUNT)):
                if name not in writer.done:
                    writer.put(name, record_of(name), ordinal)
            writer.finish()

    number = 1
    while True:
        path = shutil.copytree(good, tmp_path / str(number))
        if not killed_at(number, "before", lambda path=path: retry(path)):  # type: ignore[misc]
            break
        check_committed(path, [])
        retry(path)
        store = open_store(path)
        assert len(store) == COUNT
        assert list(store.failures()) == []
        assert verify(path).problems == []
        number += 1
    assert number > 5


@pytest.mark.parametrize("step", STEPS)
def test_an_error_of_the_disk_is_told_and_the_run_can_go_on(
    tmp_path: Path, backend: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "calm", backend)
    create_store(tmp_path / "s", backend, SCHEMA, PROVENANCE, parts=2)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for part in range(2):
        with monkeypatch.context() as patch, open_part(tmp_path / "s", part) as writer:
            patch.setattr(disk, step, fail)
            caught = None
            try:
                write_missing(writer, list(enumerate(names(COUNT)))[part::2])
                writer.finish()
            except FeatxError as error:
                caught = error
            patch.undo()
        if step != "resize" or backend == "lmdb":
            assert type(caught) is FeatxError  # exit code 1: nothing is damaged
            assert "No space left on device" in caught.message
            assert "bytes are free" in caught.message
            assert "same command again" in caught.hint
    write_store(tmp_path / "s", backend)
    check_whole(tmp_path / "s", tmp_path / "calm")


def limited_to(size: int, work: Callable[[], object]) -> int:
    """Run ``work`` in a child whose files cannot grow beyond ``size``; 42 when it was told so in our own words."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()
        except FeatxError as error:
            told = type(error) is FeatxError and "bytes are free" in error.message
            os._exit(42 if told else 1)
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_full_disk_in_the_middle_of_a_group_keeps_the_earlier_groups(tmp_path: Path, backend: str) -> None:
    path, committed = tmp_path / "s", names(6)
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        write_missing(writer, enumerate(committed))

    def fill() -> None:
        with open_part(path) as writer:
            for ordinal, name in enumerate(names(40)[6:], 6):
                writer.put(name, record_of(name), ordinal)
            writer.commit()

    assert limited_to(next(path.rglob("*.lmdb")).stat().st_size + 5000, fill) == 42
    check_committed(path, committed)
    assert sorted(open_store(path, partial=True)) == sorted(committed)
    with open_part(path) as writer:
        assert write_missing(writer, enumerate(names(COUNT))) == names(COUNT)[6:]
        writer.finish()
    assert len(open_store(path)) == 9


def test_a_full_disk_while_sealing_is_told_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "s"
    create_store(path, "hdf5", SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        write_missing(writer, enumerate(names(40)))

    def seal() -> None:
        with open_part(path) as writer:
            writer.finish()

    assert [limited_to(size, seal) for size in (20_000, 60_000, 100_000)] == [42, 42, 42]
    check_committed(path, names(40))
    seal()
    assert len(open_store(path)) == 35
    assert verify(path).problems == []
