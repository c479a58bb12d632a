"""A run that is killed goes on exactly: the same weights and the same log, to the last bit."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.toy_task import events, make_store, run, start, write_recipe

# 6 steps of 2 pieces an epoch: the loss is called 12 times an epoch. Everything that draws, draws.
SETTINGS: dict[str, Any] = {
    "epochs": 10, "batch": 8, "accumulate": 2, "lr": 0.01, "clip": 1.0, "seed": 3, "log_every": 5,
}  # fmt: skip
DRAWS = {"dropout": 0.3, "noise": 0.1}
MIDDLE_OF_EPOCH_5 = 4 * 12 + 7


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and the run that nobody disturbed."""
    home = tmp_path_factory.mktemp("resume")
    make_store(home / "store")
    recipe = write_recipe(home / "whole.yaml", home / "store", SETTINGS, **DRAWS)
    code, _, said = run(recipe, home / "whole")
    assert code == 0, said
    return home


def content(out: Path) -> dict[str, Any]:
    """All that a run leaves which must not depend on how often it was stopped."""
    last = sorted((out / "checkpoints").glob("step-*"))[-1]
    files = [out / "final/model.safetensors", out / "best/model.safetensors", out / "best/featx.json"]
    files += [last / "model.safetensors", last / "state.safetensors"]
    return {"events": events(out), **{str(path.relative_to(out)): path.read_bytes() for path in files}}


def interrupted(home: Path, name: str, moment: str, **train: Any) -> tuple[Path, Path, int, str]:
    """A run that sends itself a signal: its recipe, its folder, its exit code and what it said."""
    recipe = write_recipe(home / f"{name}.yaml", home / "store", {**SETTINGS, **train}, **DRAWS)
    code, _, said = run(recipe, home / name, TOY_SIGNAL=moment)
    return recipe, home / name, code, said


def test_ten_epochs_equal_four_and_a_half_a_kill_and_the_rest(home: Path) -> None:
    recipe, out, code, _ = interrupted(home, "killed", f"{MIDDLE_OF_EPOCH_5} SIGKILL")
    assert code == -signal.SIGKILL
    assert events(out)[-1] == {**events(out)[-1], "event": "train", "epoch": 5}, "it died within epoch 5"
    assert not (out / "final").exists()
    code, _, said = run(recipe, out)
    assert code == 0, said
    assert said.startswith("going on after step 24 of 60\nepoch 5: loss")
    assert content(out) == content(home / "whole")


def test_a_run_killed_between_two_checkpoints_of_an_epoch_goes_on_from_the_first(home: Path) -> None:
    recipe, out, code, _ = interrupted(home, "within", f"{MIDDLE_OF_EPOCH_5} SIGKILL", checkpoint_every=3)
    assert code == -signal.SIGKILL
    assert '"step-000000027-epoch-0004"' in (out / "checkpoints/latest.json").read_text()
    code, _, said = run(recipe, out)
    assert code == 0, said
    assert content(out) == content(home / "whole")


@pytest.mark.parametrize("send", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_step_finish_and_keeps_it(home: Path, send: str) -> None:
    recipe, out, code, said = interrupted(home, send, f"{MIDDLE_OF_EPOCH_5} {send}")
    assert code == 130
    assert "stopped after step 28 of 60" in said
    assert f"resume with: featx {recipe} --out {out}" in said
    assert '"step-000000028-epoch-0004"' in (out / "checkpoints/latest.json").read_text()
    code, _, said = run(recipe, out)
    assert code == 0, said
    assert content(out) == content(home / "whole")


def test_kills_at_random_moments_change_nothing(home: Path) -> None:
    settings = {**SETTINGS, "checkpoint_every": 1}
    recipe, out = write_recipe(home / "random.yaml", home / "store", settings, **DRAWS, slow=0.02), home / "random"
    moments, hits = random.Random(5), 0
    while hits < 4:
        process = start(recipe, out)
        at_work(process, out / "log.jsonl")
        try:
            process.communicate(timeout=moments.uniform(0.0, 0.3))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            hits += 1
    assert hits >= 2
    code, _, said = run(recipe, out)
    assert code == 0, said
    assert content(out) == content(home / "whole")


def at_work(process: subprocess.Popen[str], log: Path) -> None:
    """Wait until the process has written its first line."""
    before = log.stat().st_mtime_ns if log.exists() else 0
    while process.poll() is None and (not log.exists() or log.stat().st_mtime_ns == before):
        time.sleep(0.01)
