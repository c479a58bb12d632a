"""``featx status`` tells the truth about every part: while processes run, when they are killed, and from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featx import jobs
from featx.cli import main
from featx.cli.status import said
from featx.errors import StoreError
from featx.status import StoreStatus, status
from featx.store import PartWriter, create_store, open_part, open_store, verify
from featx.store.pulse import Count, Heart
from tests.part_process import draw, job, start
from tests.store_oracle import PROVENANCE, SCHEMA, names, write_missing

MINUTE_OLD = 70.0  # seconds


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """39 pictures, and a file that is none, which comes first."""
    return draw(tmp_path_factory.mktemp("pictures") / "photos", 40)


def eventually(store: Path, true: Callable[[StoreStatus], object], seconds: float = 60.0) -> StoreStatus:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            now = status(store)
        except StoreError:  # not begun yet
            now = None
        if now is not None and true(now):
            return now
        time.sleep(0.05)
    raise AssertionError(f"it never came: {now and now.to_dict()}")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["status", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_parts_that_run_are_killed_interrupted_finished_and_not_begun(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    jobs.run(job(str(photos), str(store), 1, 5), quiet=True)
    running = {k: start(photos, store, k, 5, slow=2.0) for k in (2, 3, 4)}
    now = eventually(store, lambda now: all(now.parts[k - 1].done and now.parts[k - 1].rate for k in running))
    assert now.state == "running"
    assert [part.state for part in now.parts] == ["done", "running", "running", "running", "not begun"]
    assert [part.process.pid for part in now.parts[1:4] if part.process] == [one.pid for one in running.values()]
    assert [part.total for part in now.parts] == [8] * 5
    assert 0 < now.rate < 1.9, "three parts, half a picture a second each"
    assert now.seconds_left is not None
    assert now.seconds_left >= (40 - now.done) / now.rate * 0.99
    assert now.shares["network"] > 0.9, "the fake network sleeps"
    assert now.limit == "network"

    running[2].kill()
    running[3].send_signal(signal.SIGINT)
    now = eventually(store, lambda now: now.counts["stopped"] == 2)
    for k in (2, 3):
        running[k].communicate(timeout=60)
    killed, interrupted = now.parts[1:3]
    assert "its process is gone" in killed.why
    assert interrupted.why == "interrupted"
    with open_store(store, partial=True) as reader:
        held = set(reader)
    assert killed.done == len([s for s in job(str(photos), str(store), 2, 5).sources if s.key in held])
    assert interrupted.done == len([s for s in job(str(photos), str(store), 3, 5).sources if s.key in held])

    running[4].kill()
    running[4].communicate(timeout=60)
    code, data = told(capsys, str(store))
    assert (code, data["state"]) == (4, "stopped")
    assert data["counts"] == {"done": 1, "running": 0, "stopped": 3, "failed": 0, "not begun": 1}
    assert (data["pictures"], data["refused"], data["reasons"]) == (40, 1, {"not-an-image": 1})
    assert data["recent_refusals"][0]["key"] == "a_text"
    assert [part["part"] for part in data["parts"]] == ["1/5", "2/5", "3/5", "4/5", "5/5"]

    for k in (2, 3, 4, 5):
        jobs.run(job(str(photos), str(store), k, 5), quiet=True)
    code, data = told(capsys, str(store))
    assert (code, data["state"], data["done"], data["records"]) == (0, "complete", 40, 39)
    assert data["digest"] == verify(store).totals.digest
    assert not list(store.glob("parts/*/*pulse*"))


def test_deaths_are_counted_and_pictures_that_were_under_way_named(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    first = start(photos, store, 1, 2, slow=0.3)
    eventually(store, lambda now: now.parts[0].done > 1)
    first.kill()
    first.communicate()
    part = status(store).parts[0]
    assert part.state == "stopped"
    assert part.why.startswith("its process is gone, with ")
    assert part.why.endswith(("pictures under way", "picture under way"))
    assert part.deaths == 0, "who comes next notes it"
    second = start(photos, store, 1, 2, slow=0.3)
    now = eventually(store, lambda now: now.parts[0].deaths == 1 and now.parts[0].state == "running")
    assert "1 death before" in said(now.parts[0])
    second.kill()
    second.communicate()


def test_a_watch_follows_a_run_to_its_end(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    made = job(str(photos), str(store), 1, 1)
    create_store(
        store, "lmdb", made.extractor.schema, made.provenance(), made.extractor.labels, sources=made.list_facts()
    )
    command = [sys.executable, "-m", "featx", "status", str(store), "--watch", "0.1"]
    with open_part(store):
        watches = [
            subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for more in ([], ["--json"])
        ]
        first = [watch.stdout.readline() for watch in watches if watch.stdout is not None]
    start(photos, store, 1, 1, slow=0.03).communicate(timeout=120)
    outs = [watch.communicate(timeout=120) for watch in watches]
    assert [watch.returncode for watch in watches] == [0, 0]
    assert [errors for _, errors in outs] == ["", ""]
    assert first[0].startswith("running: 0 of 40 pictures")
    assert "complete: 40 of 40 pictures, 1 refused; parts: 1 done" in outs[0][0]
    assert "store     " in outs[0][0], "the whole at the end"
    seen = [json.loads(line) for line in (first[1] + outs[1][0]).splitlines()]
    assert [each["done"] for each in seen] == sorted(each["done"] for each in seen)
    assert (seen[0]["state"], seen[-1]["state"]) == ("running", "complete")
    assert {each["state"] for each in seen[1:-1]} <= {"running", "stopped", "unconfirmed"}


def test_a_watch_on_a_terminal_draws_no_more_than_the_terminal_holds(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    for k in range(1, 21):
        jobs.run(job(str(photos), str(store), k, 20), quiet=True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "5")
    assert main(["status", str(store), "--watch"]) == 0
    frame = capsys.readouterr().out.removeprefix("\x1b[H\x1b[J").splitlines()
    assert len(frame) < 5
    assert max(map(len, frame)) < 40


def old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def elsewhere(path: Path, **changes: Any) -> None:
    """Make a pulse one of another machine."""
    data = json.loads(path.read_text())
    path.write_text(
        json.dumps({**data, **changes, "process": {"host": "node7", "pid": 5, "place": "there", "since": 1}})
    )


@pytest.fixture
def open_store_of_two(tmp_path: Path) -> Path:
    """Part 1 of 2 open, with 4 records and a pulse of this process that ended before it could say so."""
    store = tmp_path / "s"
    create_store(store, "lmdb", SCHEMA, PROVENANCE, parts=2, sources={"pictures": 20})
    with open_part(store) as writer:
        write_missing(writer, enumerate(names(4)))
        Heart(writer.folder, 10, lambda: Count(3, 0, {}))._beat("running")
    return store


def pulse_of(store: Path) -> Path:
    return store / "parts/00000-of-00002/pulse.json"


def test_a_pulse_of_another_machine_is_believed_for_a_minute(open_store_of_two: Path) -> None:
    pulse = pulse_of(open_store_of_two)
    elsewhere(pulse, rate=2.0, done=3)
    part = status(open_store_of_two).parts[0]
    assert (part.state, part.done, part.rate) == ("running", 3, 2.0)
    old(pulse, MINUTE_OLD)
    part = status(open_store_of_two).parts[0]
    assert (part.state, part.why, part.rate) == ("stopped", "no sign of life", 0.0)
    assert part.done == 4, "the files are counted once nobody writes them"
    assert part.heard == pytest.approx(MINUTE_OLD, abs=20)


def test_the_clock_of_another_machine_does_not_matter(open_store_of_two: Path) -> None:
    """It may be hours off: the date that the file has is by the clock of whoever keeps the files."""
    pulse = pulse_of(open_store_of_two)
    for off in (-7200, 7200):
        elsewhere(pulse, time=time.time() + off)
        assert status(open_store_of_two).parts[0].state == "running"
        old(pulse, MINUTE_OLD)
        assert status(open_store_of_two).parts[0].state == "stopped"


def test_a_process_that_is_there_runs_however_old_its_pulse(open_store_of_two: Path) -> None:
    old(pulse_of(open_store_of_two), MINUTE_OLD)
    assert status(open_store_of_two).parts[0].state == "running"  # the pulse is this very process's


def test_a_part_that_is_being_opened_runs(open_store_of_two: Path) -> None:
    elsewhere(pulse_of(open_store_of_two), state="interrupted")
    assert status(open_store_of_two).parts[0].state == "stopped"
    with open_part(open_store_of_two):
        assert status(open_store_of_two).parts[0].state == "running"
    with open_part(open_store_of_two, 1):
        assert status(open_store_of_two).parts[1].state == "running"
    assert status(open_store_of_two).parts[1].done == 0


def test_a_part_that_is_finished_while_it_is_looked_at_is_done(
    open_store_of_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(folder: Path) -> None:
        with open_part(open_store_of_two) as writer:
            writer.finish()

    monkeypatch.setattr("featx.status.folder.read_pulse", too_late)
    assert status(open_store_of_two).parts[0].state == "done"


def test_looking_never_stands_in_the_way_of_a_writer(open_store_of_two: Path) -> None:
    writer = [sys.executable, "-c", "import sys; from featx.status import status\nwhile 1: status(sys.argv[1])"]
    looking = subprocess.Popen([*writer, str(open_store_of_two)])
    try:
        time.sleep(1)
        for _ in range(200):
            open_part(open_store_of_two).close()
        assert looking.poll() is None
    finally:
        looking.kill()
        looking.wait()


def test_what_a_part_failed_of_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    commit = PartWriter.commit

    def full(writer: PartWriter) -> None:
        if len(list(writer.folder.glob("*"))) and writer.part == 1:
            raise OSError(28, "No space left on device")
        commit(writer)

    monkeypatch.setattr(PartWriter, "commit", full)
    with pytest.raises(Exception, match="No space left"):
        jobs.run(job(str(photos), str(tmp_path / "s"), 2, 2), quiet=True)
    code, data = told(capsys, str(tmp_path / "s"))
    assert (code, data["state"]) == (4, "failed")
    assert "No space left on device" in data["parts"][1]["why"]
    assert main(["status", str(tmp_path / "s")]) == 4
    assert "No space left on device" in capsys.readouterr().out


def test_a_damaged_part_json_is_told_and_hides_nothing_else(photos: Path, tmp_path: Path) -> None:
    for k in (1, 2):
        jobs.run(job(str(photos), str(tmp_path / "s"), k, 3), quiet=True)
    (tmp_path / "s/parts/00000-of-00003/part.json").write_text("{}")
    now = status(tmp_path / "s")
    assert [part.state for part in now.parts] == ["failed", "done", "not begun"]
    assert "is damaged" in now.parts[0].why


def test_a_complete_store_that_lost_a_part_is_not_complete(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in (1, 2):
        jobs.run(job(str(photos), str(tmp_path / "s"), k, 2), quiet=True)
    shutil.rmtree(tmp_path / "s/parts/00001-of-00002")
    code, data = told(capsys, str(tmp_path / "s"))
    assert (code, data["state"]) == (4, "failed")
    assert data["parts"][1]["why"] == "manifest.json says that the store is complete, and this part is not"


def test_a_part_that_is_asked_again_for_its_refused_pictures_is_looked_at_again(photos: Path, tmp_path: Path) -> None:
    from featx.status import watch

    store = tmp_path / "s"
    jobs.run(job(str(photos), str(store), 1, 1), quiet=True)
    watching = watch(store)
    assert watching.look().state == "complete"
    with open_part(store, retry_refused=True):
        now = watching.look()
        assert (now.state, now.done, now.refused) == ("running", 39, 0)
    jobs.run(job(str(photos), str(store), 1, 1), quiet=True)
    assert watching.look().state == "complete"


def test_all_parts_done_without_a_manifest_that_says_so_is_a_state_of_its_own(photos: Path, tmp_path: Path) -> None:
    from featx.store.completion import reopen

    jobs.run(job(str(photos), str(tmp_path / "s"), 1, 1), quiet=True)
    reopen(tmp_path / "s")
    assert status(tmp_path / "s").state == "unconfirmed"
    jobs.run(job(str(photos), str(tmp_path / "s"), 1, 1), quiet=True)
    assert status(tmp_path / "s").state == "complete"


def test_time_left_is_that_of_the_slowest_part_where_it_takes_longer_than_all_together(open_store_of_two: Path) -> None:
    pulse, other = pulse_of(open_store_of_two), open_store_of_two / "parts/00001-of-00002/pulse.json"
    other.parent.mkdir()
    elsewhere(pulse, done=9, total=10, rate=0.01)
    other.write_bytes(pulse.read_bytes())
    elsewhere(other, done=5, total=10, rate=1.0)
    now = status(open_store_of_two)
    assert now.seconds_left == pytest.approx(100)
    elsewhere(pulse, done=9, total=10, rate=1.0)
    elsewhere(other, state="interrupted", done=0)
    assert status(open_store_of_two).seconds_left == pytest.approx(11)  # whoever runs takes the other part, too


def test_thousands_of_parts_fit_on_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=3000, sources={"pictures": 100_000_000})
    assert main(["status", str(tmp_path / "s")]) == 4
    out = capsys.readouterr().out.splitlines()
    assert len(out) < 20
    assert "0 of 100,000,000" in out[1]


@pytest.mark.parametrize(
    "words",
    [["verify", "{s}"], ["verify", "{s}", "--repair"], ["verify", "{s}", "--repair", "{out}"], ["inspect", "{s}"],
     ["compact", "{s}", "{out}"], ["merge", "{out}", "{s}", "{s}"], ["split", "{s}", "{out}", "--parts", "2"],
     ["push", "{s}", "{out}"], ["push", "{s}", "{out}", "--parts", "1"], ["stats", "{s}"], ["diff", "{s}", "{s}"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_takes_notice_of_a_pulse_in_an_unfinished_part(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    made = tmp_path / "made" / "s"
    jobs.run(job(str(photos), str(made), 2, 2), quiet=True)
    with open_part(made, 0), Heart(made / "parts/00000-of-00002", 20, lambda: Count(7, 0, {})):
        shutil.copytree(made, tmp_path / "pulse" / "s")
    shutil.copytree(tmp_path / "pulse", tmp_path / "none")
    (pulse,) = (tmp_path / "none").glob("s/parts/*/pulse.json")
    pulse.unlink()
    outcomes, contents = [], []
    for kind in ("none", "pulse"):
        here = tmp_path / kind
        code = main([word.format(s=here / "s", out=here / "out") for word in words])
        said = capsys.readouterr()
        lines = (said.out + said.err).replace(str(here), "").splitlines()
        outcomes.append((code, [line for line in lines if ", ETA " not in line]))
        found = {path.relative_to(here): path.stat().st_size for path in here.rglob("*") if path.is_file()}
        contents.append({name: size for name, size in found.items() if name.name != "pulse.json"})
    assert outcomes[0] == outcomes[1]
    assert contents[0] == contents[1]
    assert not list((tmp_path / "pulse").glob("out/parts/*/pulse.json"))


@pytest.mark.parametrize("words", [["{}/nothing"], ["{}"], ["{}/file"], ["{}/nothing", "--watch", "1"]])
def test_what_is_no_store_is_told_with_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["status", *(word.format(tmp_path) for word in words)]) == 4
    assert capsys.readouterr().err.startswith("featx: ")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_watch_needs_a_pause(tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["status", str(tmp_path), f"--watch={seconds}"]) == 2
    assert "cannot be" in capsys.readouterr().err


def test_looking_loads_no_torch_and_no_arrays_of_pictures(photos: Path, tmp_path: Path) -> None:
    jobs.run(job(str(photos), str(tmp_path / "s"), 1, 1), quiet=True)
    code = (
        "import sys; from featx.cli import main; code = main(['status', sys.argv[1]])\n"
        "assert code == 0 and not {'torch', 'cv2', 'h5py'} & sys.modules.keys(), sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
