"""All parts by several processes of this machine: killed, poisoned, interrupted, and in spite of it the same store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import featx
from featx.config import ExtractConfig
from featx.errors import StoreError, UsageError
from featx.spread import Workers, parts_for, plan
from featx.store import open_store
from featx.store.manifest import Manifest
from tests.spread_toys import Mortal, check, command, draw, offer, running, until

COUNT = 48


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw(tmp_path / "photos", COUNT)


@pytest.fixture(autouse=True)
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The toy extractor, for this process and all that it starts."""
    environment = offer(tmp_path / "package")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def one(photos: Path, tmp_path: Path) -> str:
    """The digest of what one process makes of the photos."""
    featx.extract(str(photos), str(tmp_path / "one"), extractor="toy-spread")
    return check(photos, tmp_path / "one")


def spread(photos: Path, store: Path, jobs: int = 2, **settings: Any) -> Any:
    return featx.extract(str(photos), str(store), extractor="toy-spread", jobs=jobs, **settings)


def told(photos: Path, store: Path, **options: Any) -> tuple[Any, list[str]]:
    """Two parts by two processes, and what is said meanwhile."""
    said: list[str] = []
    config = ExtractConfig(extractor="toy-spread", options=options)
    return plan(str(photos), str(store), config, parts=2).run(Workers(2), quiet=True, on_note=said.append), said


def test_two_processes_make_what_one_makes_and_build_the_extractor_once_each(
    photos: Path, tmp_path: Path, one: str
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    summary = spread(photos, tmp_path / "s", parts=6, log=str(log), slow=0.01)
    assert check(photos, tmp_path / "s") == one
    assert (summary.pictures, summary.refused) == (COUNT - 1, 1)
    assert Manifest.load(tmp_path / "s").parts == 6
    built = {int(path.name.removeprefix("built-")) for path in log.iterdir()}
    assert len(built) == 2
    assert os.getpid() not in built
    again = spread(photos, tmp_path / "s")
    assert (again.pictures, again.refused) == (0, 0)


def test_processes_that_are_killed_in_the_middle_are_replaced_and_nothing_is_lost_or_doubled(
    photos: Path, tmp_path: Path, one: str
) -> None:
    store = tmp_path / "s"
    options = ("--extractor", "toy-spread", "--set", "slow=0.1", "--parts", 3, "--jobs", 2)
    with subprocess.Popen(command("extract", photos, store, *options), stderr=subprocess.PIPE, text=True) as run:
        killed: set[int] = set()
        for _ in range(2):
            victim = until(lambda: next((pid for pid in running(store) if pid not in killed), None))
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        said = run.communicate(timeout=200)[1]
    assert run.returncode == 0, said
    assert said.count("SIGKILL(-9)") == 2
    assert f"{COUNT - 1} pictures in" in said
    assert check(photos, store) == one


@pytest.mark.parametrize("raises", [False, True])
def test_a_picture_that_kills_every_worker_is_refused_and_the_others_are_done(
    photos: Path, tmp_path: Path, raises: bool
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    summary, said = told(photos, tmp_path / "s", poison=["p005"], log=str(log), raises=raises)
    assert sum("another goes on" in note for note in said) >= 2
    assert any(note.startswith("p005 is refused") for note in said)
    check(photos, tmp_path / "s", {"p999": "not-an-image", "p005": "killed-worker"})
    assert (summary.pictures, summary.refused) == (COUNT - 2, 2)


def test_workers_that_never_get_anywhere_are_not_started_for_ever(photos: Path, tmp_path: Path) -> None:
    """It is the machine, not the pictures: hardly any is refused, and the end is told."""
    log = tmp_path / "log"
    log.mkdir()
    every = [f"p{i:03}" for i in range(COUNT)]
    with pytest.raises(StoreError, match="ended"):
        told(photos, tmp_path / "s", poison=every, log=str(log), raises=True)
    with open_store(tmp_path / "s", partial=True) as store:
        assert len(list(store.failures())) < COUNT / 2


def test_ctrl_c_lets_every_worker_finish_its_batch_and_says_how_to_go_on(
    photos: Path, tmp_path: Path, one: str
) -> None:
    store = tmp_path / "s"
    arguments = command("extract", photos, store, "--extractor", "toy-spread", "--set", "slow=0.15", "--jobs", 2,
                        "--parts", 2)  # fmt: skip
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        workers = until(lambda: found if len(found := running(store)) == 2 else None)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        said = run.communicate(timeout=100)[1]
    assert run.returncode == 130, said
    assert "resume with: featx extract" in said
    assert said.count("finishing the batch under way") == 1
    assert "Traceback" not in said
    assert not any(alive(pid) for pid in workers)
    assert not [*store.glob("parts/*/flight"), *store.glob("parts/*/deaths.jsonl")]  # ended in order
    spread(photos, store)
    assert check(photos, store) == one


def test_no_worker_outlives_a_parent_that_is_killed(photos: Path, tmp_path: Path, one: str) -> None:
    store = tmp_path / "s"
    arguments = command("extract", photos, store, "--extractor", "toy-spread", "--set", "slow=0.15", "--jobs", 2,
                        "--parts", 2)  # fmt: skip
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as run:
        workers = until(lambda: found if len(found := running(store)) == 2 else None)
        run.kill()
    until(lambda: not any(alive(pid) for pid in workers), 30)
    assert not [*store.glob("parts/*/flight")]  # each committed its batch
    spread(photos, store)
    assert check(photos, store) == one


def test_three_shells_with_a_part_each_make_what_one_process_makes(photos: Path, tmp_path: Path, one: str) -> None:
    shells = [
        subprocess.Popen(command("extract", photos, tmp_path / "s", "--extractor", "toy-spread", "--part", f"{k}/3"),
                         stderr=subprocess.PIPE, text=True)
        for k in (1, 2, 3)
    ]  # fmt: skip
    said = [shell.communicate(timeout=200)[1] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0, 0], said
    assert check(photos, tmp_path / "s") == one


def test_refused_pictures_are_tried_again_once_by_whoever_has_the_part(photos: Path, tmp_path: Path) -> None:
    spread(photos, tmp_path / "s", parts=3)
    (photos / "p999.jpg").write_bytes((photos / "p000.png").read_bytes())
    summary = spread(photos, tmp_path / "s", retry_refused=True)
    assert (summary.pictures, summary.refused) == (1, 0)
    check(photos, tmp_path / "s", {})


def test_what_no_part_can_be_done_without_is_told_once_and_nothing_is_made(photos: Path, tmp_path: Path) -> None:
    spread(photos, tmp_path / "s", parts=2)
    with pytest.raises(UsageError, match="2 parts, not 3"):
        spread(photos, tmp_path / "s", parts=3)
    (photos / "p000.png").unlink()
    with pytest.raises(UsageError, match=f"begun with {COUNT} pictures"):
        spread(photos, tmp_path / "s")


def test_the_number_of_parts_depends_on_the_pictures_alone() -> None:
    assert [parts_for(n) for n in (0, 1, 32, 33, 8192, 10**8)] == [1, 1, 1, 2, 256, 256]


def test_a_machine_reads_one_summary_and_too_many_refused_are_an_exit_code(photos: Path, tmp_path: Path) -> None:
    arguments = ("--extractor", "toy-spread", "--jobs", 2, "--max-refused", 0, "--json")
    run = subprocess.run(command("extract", photos, tmp_path / "s", *arguments), capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert run.returncode == 3, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    (last,) = [line for line in lines if line.get("event") == "summary"]
    assert (last["pictures"], last["refused"], last["done"], last["total"]) == (COUNT - 1, 1, COUNT, COUNT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--jobs", 2, "--part", "1/2"), "--part is for one process"),
        (("--gpus", "0", "--device", "cpu"), "--device and --gpus"),
        (("--ray-address", "a:1"), "--executor ray"),
        (("--jobs", "0"), "neither a number"),
        (("--gpus", "0,0"), "neither different numbers"),
    ],
)
def test_what_does_not_go_together_is_said(
    photos: Path, tmp_path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from featx.cli import main

    try:
        code = main(["extract", str(photos), str(tmp_path / "s"), "--extractor", "toy-spread", *map(str, arguments)])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_process_for_each_gpu_has_its_device(photos: Path, tmp_path: Path) -> None:
    """Without a GPU here: what the extractors are built with."""
    from featx.spread.task import Build

    assert Build(ExtractConfig(options={"slow": 0}), "/", "cuda:1").options == {"slow": 0, "device": "cuda:1"}
    summary = featx.extract(str(photos), str(tmp_path / "s"), extractor="toy-spread", gpus=[0, 1])
    assert summary.pictures == COUNT - 1
    assert Mortal.from_options({"device": "cuda:0"}).name == "fake"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
