"""The pulse of a part: it tells how a run is doing, costs nothing, and whatever goes wrong with it harms no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featx.errors import Interrupted, StoreError
from featx.store import create_store, open_part, open_store, verify
from featx.store.process import Process
from featx.store.pulse import FILE, Count, Heart, Pulse, read_pulse
from tests.store_oracle import PROVENANCE, SCHEMA, names, record_of


def wait_for(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def done_of(folder: Path) -> int:
    pulse = read_pulse(folder)
    return -1 if pulse is None else pulse.done


def test_a_pulse_follows_the_run_and_says_by_whom_it_is_written(tmp_path: Path) -> None:
    counts = iter([Count(3, 0, {}), Count(5, 1, {"network": 1.0})])
    last = Count(9, 2, {"decode": 0.25, "network": 0.75})
    with Heart(tmp_path, 12, lambda: next(counts, last), every=0.02):
        wait_for(lambda: done_of(tmp_path) == 9)
        data = json.loads((tmp_path / FILE).read_text())
    assert (data["state"], data["refused"], data["total"]) == ("running", 2, 12)
    assert data["shares"] == {"decode": 0.25, "network": 0.75}
    assert data["process"]["pid"] == os.getpid()
    assert data["rate"] > 0
    assert data["begun"] <= data["moved"] <= data["time"] <= time.time()
    assert not list(tmp_path.iterdir()), "a run that went well leaves nothing"


def test_the_rate_is_that_of_late_and_sinks_when_nothing_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, done = 100.0, 0
    monkeypatch.setattr("featx.store.pulse.time.monotonic", lambda: now)
    heart = Heart(tmp_path, 1000, lambda: Count(done, 0, {}))
    for _ in range(40):  # one a second, then ten a second
        heart._beat("running")
        now, done = now + 1, done + 1
    for _ in range(40):
        heart._beat("running")
        now, done = now + 1, done + 10
    fast = read_pulse(tmp_path)
    now += 1000
    heart._beat("running")
    slow = read_pulse(tmp_path)
    assert fast is not None
    assert slow is not None
    assert fast.rate == pytest.approx(10)
    assert slow.rate < 0.2


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (Interrupted("stopped"), "interrupted", ""),
        (KeyboardInterrupt(), "interrupted", ""),
        (StoreError("the disk is full"), "failed", "the disk is full"),
        (ValueError("what"), "failed", "ValueError: what"),
    ],
)
def test_a_run_that_ends_early_leaves_a_pulse_that_says_why(
    tmp_path: Path, error: BaseException, state: str, said: str
) -> None:
    with pytest.raises(type(error)), Heart(tmp_path, 12, lambda: Count(4, 0, {})):
        raise error
    pulse = read_pulse(tmp_path)
    assert pulse is not None
    assert (pulse.state, pulse.error, pulse.done) == (state, said, 4)


@pytest.mark.parametrize("trouble", ["no folder", "no room", "no count"])
def test_what_goes_wrong_with_a_pulse_is_nothing_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    calls = 0

    def count() -> Count:
        nonlocal calls
        calls += 1
        if trouble == "no count":
            raise RuntimeError
        return Count(1, 0, {})

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    if trouble == "no room":
        monkeypatch.setattr(Path, "write_bytes", full)
    folder = tmp_path / "gone" if trouble == "no folder" else tmp_path
    with Heart(folder, 1, count, every=0.01):
        wait_for(lambda: calls > 3)
    assert read_pulse(folder) is None


def test_a_pulse_is_written_again_once_the_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, tries = Path.write_bytes, 0

    def full_for_a_moment(path: Path, data: bytes) -> int:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_for_a_moment)
    with Heart(tmp_path, 1, lambda: Count(1, 0, {}), every=0.01):
        wait_for(lambda: done_of(tmp_path) == 1)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"3", b"{}", b'{"state": "running"}', b"\xff", b"[" * 5000,
     json.dumps({"state": "running", "done": "many", "refused": 0, "total": 1, "rate": 0, "begun": 0, "moved": 0,
                 "time": 0, "process": {}}).encode()],
)  # fmt: skip
def test_what_is_no_pulse_is_taken_for_none(document: bytes) -> None:
    assert Pulse.read(document) is None


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), Heart(tmp_path, 12, lambda: Count(4, 0, {})):
        raise Interrupted("stopped")
    data = json.loads((tmp_path / FILE).read_text())
    pulse = Pulse.read(json.dumps({**data, "mood": "good"}).encode())
    assert pulse == read_pulse(tmp_path)


def test_a_process_is_known_to_live_and_to_be_over() -> None:
    code = (
        "import dataclasses, json; from featx.store.process import Process;"
        "print(json.dumps(dataclasses.asdict(Process.this())), flush=True); input()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = Process(**json.loads(child.stdout.readline()))
    assert said.pid == child.pid
    assert said.alive() is True
    child.kill()
    wait_for(lambda: said.alive() is False)  # while nobody has asked after it: a zombie does not write
    child.communicate()
    assert said.alive() is False
    assert Process("elsewhere", said.pid, "another start of the system", said.since).alive() is None
    assert Process(pid=os.getpid()).alive() is None


def test_a_number_that_was_given_to_another_process_is_not_taken_for_the_first() -> None:
    this = Process.this()
    assert this.alive() is True
    assert Process(this.host, this.pid, this.place, this.since - 1).alive() is False


def test_an_unfinished_part_with_a_pulse_is_read_and_verified_and_a_finished_one_has_none(tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_store(store, "lmdb", SCHEMA, PROVENANCE)
    keys = names(6)
    with open_part(store) as writer, writer.beating(6, lambda: Count(3, 0, {})):
        for ordinal, key in enumerate(keys[:3]):
            writer.put(key, record_of(key), ordinal)
        writer.commit()
        assert done_of(writer.folder) == 3
        assert verify(store).ok
        with open_store(store, partial=True) as reader:
            assert len(reader) == 3
        for ordinal, key in enumerate(keys[3:], 3):
            writer.put(key, record_of(key), ordinal)
        writer.finish()
        assert read_pulse(writer.folder) is None
    assert sorted(path.name for path in writer.folder.iterdir()) == [".lock", "part.json", "records.lmdb"]
    assert verify(store).ok


def test_a_pulse_that_a_death_left_beside_a_finished_part_goes_when_it_is_opened(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.finish()
    (writer.folder / FILE).write_text("{}")
    with open_part(tmp_path / "s") as writer, writer.beating(0, lambda: Count(0, 0, {})):
        assert not (writer.folder / FILE).exists()


def test_what_fails_behind_a_finished_part_is_not_said_of_the_part(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, sources={"pictures": 2})

    def run() -> None:
        with open_part(tmp_path / "s") as writer, writer.beating(1, lambda: Count(1, 0, {})):
            writer.put("a", record_of("a"), 0)
            writer.finish()

    with pytest.raises(StoreError, match="some are in no part"):
        run()
    assert (tmp_path / "s/parts/00000-of-00001/part.json").exists()
    assert not (tmp_path / "s/parts/00000-of-00001" / FILE).exists()
