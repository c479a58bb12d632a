"""A run killed at any moment resumes by itself and ends with the same content.

The oracle is ``tests.store_oracle``: every record can be computed from its key, so nothing that is wrong can pass.

Where the cases are that every store must survive::

    1, 2    killed at random moments, resumed     here, test_store_kill; of the whole command test_kill
    3, 13   killed between any two steps          here (halfway through a seal: HDF5 before its first flush)
    4       interrupted                           here; of the whole command test_cli
    5       power cut at every step               test_store_power
    6       disk full                             here
    7       growth never loses                    test_store_contract
    9, 10   one of four writers dies; two on one  test_store_process
    11, 12  cut files, flipped bits               test_store_damage, test_store_flips, test_store_log
    14, 15  manifests that are bad, or disagree   test_store_manifest
    17      stores of earlier releases            test_store_golden
    22      keys                                  test_store_contract, test_codec
    23      fork, pickle, threads                 test_store_process
"""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from featx.errors import FeatxError, StoreError, UsageError
from featx.store import PartWriter, create_store, disk, hdf5_store, open_part, open_store, verify
from featx.store import writer as writing
from tests.disk_double import Dying, Failing, Full
from tests.store_oracle import KINDS, PROVENANCE, make_store, names, record_of, write_missing

ROOT = Path(__file__).resolve().parent.parent
COUNT = 10
LONG = 200  # pictures in the runs that are killed at random moments
ROUNDS = 6


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(path: Path, kind: str, count: int) -> Path:
    backend, schema = KINDS[kind]
    return make_store(path, backend, count, schema=schema)


def check_whole(path: Path, undisturbed: Path) -> None:
    """The store is complete, sound, and has the content of one that was never disturbed."""
    store, calm = open_store(path), open_store(undisturbed)
    assert store.manifest == calm.manifest
    assert list(store.keys("source")) == list(calm.keys("source"))
    assert sorted(store.failures()) == sorted(calm.failures())
    assert all(store[key] == record_of(key, store.schema) for key in store)
    assert verify(path).problems == []


def check_committed(path: Path, acknowledged: list[str]) -> None:
    """After a kill: what was acknowledged is there, what is there is right."""
    if not (path / "manifest.json").exists():
        assert not acknowledged
        return
    store = open_store(path, partial=True)
    known = {*store, *(refusal.key for refusal in store.failures())}
    assert known >= set(acknowledged)
    assert all(store[key] == record_of(key, store.schema) for key in store)
    assert verify(path).problems == []


def run_and_kill(path: Path, kind: str, lines: int, delay: float) -> list[str]:
    """Start the writer, kill it ``delay`` seconds after it said ``lines`` lines. Returns the keys it acknowledged."""
    command = [sys.executable, "-m", "tests.store_oracle", str(path), kind, str(LONG)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    said += process.communicate()[0].splitlines(keepends=True)
    whole = [line.strip() for line in said if line.endswith("\n")]
    assert "finished" not in whole, "killed too late to test anything"
    return [line for line in whole if line != "opened"]


def test_killed_at_random_moments_a_writer_loses_nothing_and_ends_the_same(tmp_path: Path, kind: str) -> None:
    calm = made(tmp_path / "calm", kind, LONG)
    path, rng = tmp_path / "s", random.Random(7)
    acknowledged: list[str] = []
    for _ in range(ROUNDS):
        said = run_and_kill(path, kind, rng.randrange(1, 30), rng.random() * 0.005)
        assert not set(said) & set(acknowledged), "a committed picture was computed again"
        acknowledged += said
        check_committed(path, acknowledged)
    subprocess.run([sys.executable, "-m", "tests.store_oracle", path, kind, str(LONG)], cwd=ROOT, check=True)
    assert len(acknowledged) > ROUNDS
    check_whole(path, calm)


def write_store(path: Path, kind: str, count: int = COUNT, parts: int = 2) -> None:
    """One whole run, from nothing or from wherever the last one stopped."""
    create_store(path, *KINDS[kind], PROVENANCE, parts=parts)
    for part in range(parts):
        with open_part(path, part) as writer:
            write_missing(writer, list(enumerate(names(count)))[part::parts], group=4)
            writer.finish()


def killed_at(number: int, when: str, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that dies at its ``number``-th step. False when it came to its end."""
    child = os.fork()
    if child == 0:
        disk.current = Dying(number, when)
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
    tmp_path: Path, kind: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 16_000)  # several seals per part
    write_store(tmp_path / "calm", kind)
    number = 1
    while killed_at(number, when, lambda path=tmp_path / str(number): write_store(path, kind)):  # type: ignore[misc]
        path = tmp_path / str(number)
        check_committed(path, [])
        write_store(path, kind)
        check_whole(path, tmp_path / "calm")
        shutil.rmtree(path)
        number += 1
    assert number > 15
    check_whole(tmp_path / str(number), tmp_path / "calm")


def test_killed_at_step_after_step_of_one_run_it_still_ends_the_same(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 16_000)
    write_store(tmp_path / "calm", kind)
    deaths = 0
    while killed_at(3 + deaths, "after", lambda: write_store(tmp_path / "s", kind)):
        deaths += 1
    assert deaths >= 3
    check_whole(tmp_path / "s", tmp_path / "calm")


def test_killed_while_retrying_refused_pictures_nothing_is_lost(tmp_path: Path, kind: str) -> None:
    good = made(tmp_path / "good", kind, COUNT)

    def retry(path: Path) -> None:
        with open_part(path, retry_refused=True) as writer:
            for ordinal, name in enumerate(names(COUNT)):
                if name not in writer.done:
                    writer.put(name, record_of(name, writer.schema), ordinal)
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


@pytest.mark.parametrize("once", [True, False])
def test_whichever_operation_of_the_disk_fails_it_is_told_and_the_run_can_go_on(
    tmp_path: Path, kind: str, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 16_000)
    write_store(tmp_path / "calm", kind, 8, 1)
    number, told = 1, None
    while True:
        path, failing = tmp_path / str(number), Failing(number, errno.EIO, once=once)
        try:
            with disk.using(failing):
                write_store(path, kind, 8, 1)
        except FeatxError as error:
            told = error
        if not failing.failed:
            break
        assert type(told) is FeatxError  # exit code 1: nothing is damaged
        assert "Input/output error" in told.message
        assert "bytes are free" in told.message
        assert "same command again" in told.hint
        check_committed(path, [])
        write_store(path, kind, 8, 1)
        check_whole(path, tmp_path / "calm")
        shutil.rmtree(path)
        number, told = number + 1, None
    assert number > 30


def test_after_a_failed_commit_the_same_writer_may_try_again(tmp_path: Path, kind: str) -> None:
    create_store(tmp_path / "s", *KINDS[kind], PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a", writer.schema), 0)
        writer.commit()
        writer.put("b", record_of("b", writer.schema), 1)
        for only in ("write", "sync"):
            with disk.using(Failing(1, errno.EIO, only=only)), pytest.raises(FeatxError, match="Input/output error"):
                writer.commit()
            assert "b" not in writer.done
            assert list(open_store(tmp_path / "s", partial=True)) == ["a"]
        writer.put("c", record_of("c", writer.schema), 2)
    assert list(open_store(tmp_path / "s", partial=True)) == ["a", "b", "c"]


def test_what_a_failed_commit_left_and_could_not_be_cut_off_is_never_written_behind(tmp_path: Path, kind: str) -> None:
    create_store(tmp_path / "s", *KINDS[kind], PROVENANCE)
    writer = open_part(tmp_path / "s")
    writer.put("a", record_of("a", writer.schema), 0)
    writer.commit()
    writer.put("d", record_of("d", writer.schema), 3)
    with disk.using(Failing(1, errno.EIO, once=False)), pytest.raises(FeatxError, match="Input/output error"):
        writer.commit()
    with pytest.raises(StoreError, match="could not be written before"):
        writer.commit()
    writer.close()
    with open_part(tmp_path / "s") as writer:
        assert ["a" in writer.done, "d" in writer.done] == [True, False]
        writer.finish()
    assert list(open_store(tmp_path / "s")) == ["a"]


def test_a_group_that_fails_in_the_background_is_told_and_not_lost(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 10_000)
    create_store(tmp_path / "s", *KINDS[kind], PROVENANCE)

    def put(writer: PartWriter) -> None:
        for ordinal, name in enumerate(names(10)):
            with suppress(UsageError):  # it was put already
                writer.put(name, record_of(name, writer.schema), ordinal)

    with open_part(tmp_path / "s") as writer:
        with disk.using(Failing(1, errno.ENOSPC, only="sync")), pytest.raises(FeatxError, match="No space left"):
            put(writer)
        assert not any(name in writer.done for name in names(10))
        put(writer)
        writer.finish()
    store = open_store(tmp_path / "s")
    assert sorted(store) == sorted(names(10))
    assert all(store[name] == record_of(name, store.schema) for name in store)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_disk_that_fills_up_is_told_with_what_is_needed_and_free(tmp_path: Path, kind: str, share: float) -> None:
    write_store(tmp_path / "calm", kind)
    whole = Full(10**9)
    with disk.using(whole):
        write_store(tmp_path / "all", kind)
    path = tmp_path / "s"
    with disk.using(Full(int((10**9 - whole.free) * share))), pytest.raises(FeatxError) as caught:
        write_store(path, kind)
    assert caught.value.exit_code == 1
    assert re.search(
        r"could not write ([\d,]+ bytes )?to .*No space left on device.*; [\d,]+ bytes are free", str(caught.value)
    )
    check_committed(path, [])
    write_store(path, kind)
    check_whole(path, tmp_path / "calm")


@pytest.mark.parametrize("background", [False, True])
def test_an_interrupt_in_the_middle_of_a_commit_keeps_what_was_committed(
    tmp_path: Path, kind: str, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 10_000 if background else 10**8)
    write_store(tmp_path / "calm", kind, 12, 1)
    path, committed, interrupted = tmp_path / "s", names(3), list[Path]()
    create_store(path, *KINDS[kind], PROVENANCE)

    class Interrupted(disk.Disk):
        def sync(self, path: Path) -> None:
            if path.name == "records.log" and not interrupted:
                interrupted.append(path)
                os.kill(os.getpid(), signal.SIGINT)
            super().sync(path)

    def work() -> None:
        with open_part(path) as writer:
            write_missing(writer, enumerate(committed))
            with disk.using(Interrupted()):
                for ordinal, name in list(enumerate(names(12)))[3:]:
                    writer.put(name, record_of(name, writer.schema), ordinal)
                writer.commit()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    check_committed(path, committed)
    with open_part(path) as writer:  # nobody holds the lock
        assert all(name in writer.done for name in committed)
    write_store(path, kind, 12, 1)
    check_whole(path, tmp_path / "calm")


def test_pictures_with_long_names_keep_them_when_a_finished_part_is_opened_again(tmp_path: Path, kind: str) -> None:
    long = "deep/" * 100 + "name.jpg"
    create_store(tmp_path / "s", *KINDS[kind], PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put(long, record_of(long, writer.schema), 0)
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
        writer.finish()
    with open_part(tmp_path / "s", retry_refused=True) as writer:
        assert list(open_store(tmp_path / "s", partial=True)) == [long]
        writer.put("b", record_of("b", writer.schema), 1)
        writer.finish()
    with open_store(tmp_path / "s") as store:
        assert list(store) == ["b", long]
        assert store[long] == record_of(long, store.schema)


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


def test_a_full_disk_in_the_middle_of_a_group_keeps_the_earlier_groups(tmp_path: Path, kind: str) -> None:
    path, committed = tmp_path / "s", names(6)
    create_store(path, *KINDS[kind], PROVENANCE)
    with open_part(path) as writer:
        write_missing(writer, enumerate(committed))

    def fill() -> None:
        with open_part(path) as writer:
            for ordinal, name in enumerate(names(40)[6:], 6):
                writer.put(name, record_of(name, writer.schema), ordinal)
            writer.commit()

    assert limited_to(next(path.rglob("records.log")).stat().st_size + 5000, fill) == 42
    check_committed(path, committed)
    assert sorted(open_store(path, partial=True)) == sorted(committed)
    with open_part(path) as writer:
        assert write_missing(writer, enumerate(names(COUNT))) == names(COUNT)[6:]
        writer.finish()
    assert len(open_store(path)) == 9


def test_a_full_disk_while_sealing_is_told_and_harmless(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    create_store(path, *KINDS[kind], PROVENANCE)
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
