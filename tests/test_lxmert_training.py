"""`featx train` on LXMERT's tasks: two processes learn what one learns, and a run that is killed goes on exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests import lxmert_toys as toys
from tests.toy_task import events

TRAIN: dict[str, Any] = {
    "epochs": 6, "batch": 8, "optimiser": "bertadam", "lr": 2e-3, "clip": 5.0, "log_every": 1, "workers": 1, "seed": 5,
}  # fmt: skip
VQA = {"task": "lxmert-vqa", "loss": "ce"}
# Words and answers are means over what is hidden and what is asked, of which processes may have different numbers.
PLAIN_MEANS = ["matched", "objects", "attributes", "features"]
PRETRAIN = {"task": "lxmert-pretrain", "objectives": PLAIN_MEANS}


def write_recipe(home: Path, name: str, train: dict[str, Any], dropout: float = 0.0, **options: Any) -> Path:
    """A configuration for `featx train` on three questions about each of eight pictures; most have an answer."""
    base = toys.options(home / "q.json")
    base["model"]["dropout"] = dropout
    base["data"]["answers"] = str(home / "a.json")
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**base, "store": str(home / "store"), "train": {**TRAIN, **train}, **options}))
    return path


def start(recipe: Path, out: Path, processes: int = 1) -> subprocess.Popen[str]:
    """`featx train` in a process, or in several under torchrun."""
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.Popen(
        [sys.executable, "-m", *(several if processes > 1 else []), "featx", "train", str(recipe), "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parent.parent,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def trained(recipe: Path, processes: int = 1) -> Path:
    """The folder of a run that went well."""
    out = recipe.with_suffix("")
    process = start(recipe, out, processes)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("training")
    toys.make_store(home / "store")
    toys.write_questions(home / "q.json")
    (home / "a.json").write_text(json.dumps(["blue", "2"]))  # a third of the questions has none of these
    return home


def curve(out: Path) -> list[dict[str, Any]]:
    return [event for event in events(out) if event["event"] == "train"]


@pytest.mark.parametrize(("options", "train"), [(VQA, {}), (PRETRAIN, {"accumulate": 2})], ids=["vqa", "pretrain"])
def test_two_processes_have_the_loss_curve_of_one(home: Path, options: dict[str, Any], train: dict[str, Any]) -> None:
    one = trained(write_recipe(home, f"{options['task']}-one", {}, **options))
    two = trained(write_recipe(home, f"{options['task']}-two", train, **options), processes=2)
    alone, shared = curve(one), curve(two)
    assert len(alone) == 18
    assert [e["loss"] for e in shared] == pytest.approx([e["loss"] for e in alone], abs=1e-4)
    assert [e["norm"] for e in shared] == pytest.approx([e["norm"] for e in alone], rel=1e-4, abs=1e-4)
    for part in alone[0].get("parts", {}):
        assert [e["parts"][part] for e in shared] == pytest.approx([e["parts"][part] for e in alone], abs=1e-4)
    assert sum(e["loss"] for e in alone[-3:]) < 0.9 * sum(e["loss"] for e in alone[:3]), "nothing was learnt"
    scores = [[e["figures"] for e in events(out) if e["event"] == "evaluation"] for out in (one, two)]
    for mine, theirs in zip(*scores, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-3)
    weights = [load_file(out / "final/model.safetensors") for out in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-4, rtol=1e-3)


def test_a_run_that_is_killed_goes_on_exactly(home: Path) -> None:
    """Dropout draws, and so does the order of the examples; the end is the same, bit for bit."""
    settings = {"epochs": 30, "evaluate_every": 10}
    whole = trained(write_recipe(home, "whole", settings, dropout=0.1, **VQA))
    recipe = write_recipe(home, "killed", settings, dropout=0.1, **VQA)
    out = recipe.with_suffix("")
    process = start(recipe, out)
    while process.poll() is None and not sum(1 for _ in (out / "checkpoints").glob("step-*-epoch-0004")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "final").exists()
    assert 4 <= max(e["epoch"] for e in events(out)) < 30
    assert trained(recipe) == out
    assert events(out) == events(whole)
    last = sorted((whole / "checkpoints").glob("step-*"))[-1].name
    for file in ("final/model.safetensors", "best/model.safetensors", f"checkpoints/{last}/state.safetensors"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()
