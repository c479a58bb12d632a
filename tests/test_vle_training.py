"""`featx train` on VLE's tasks: two processes learn what one learns, and a run that is killed goes on exactly."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests import vle_toys as toys
from tests.test_lxmert_training import curve, start, trained
from tests.test_vle_tasks import MORE
from tests.toy_task import events

TRAIN: dict[str, Any] = {"epochs": 2, "batch": 12, "lr": 2e-3, "clip": 1.0, "log_every": 1, "workers": 1, "seed": 5}
FIGURES = {"vle-itm": {"accuracy", "average precision", "always the same"},
           "vle-pbc": {"f1", "average precision", "share"}}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vle")
    toys.make_store(home / "store")
    return home


def write_recipe(home: Path, task: str, name: str, train: dict[str, Any], dropout: float = 0.0) -> Path:
    model = {"hidden": 16, "heads": 2, "layers": [1, 1], "init_std": 0.15, "dropout": dropout,
             "tokenizer": {"size": 200}, "max_length": 40}  # fmt: skip
    spec = toys.write_data(home)[task]
    path = home / f"{task}-{name}.yaml"
    recipe = {"task": task, "store": str(home / "store"), "model": model, "rates": {"cross_modal": 2},
              "data": {"train": spec, "val": spec, **MORE[task]}, "train": {**TRAIN, **train}}  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.mark.parametrize("task", ["vle-itm", "vle-pbc"])
def test_two_processes_learn_what_one_learns(home: Path, task: str) -> None:
    """One task draws its texts, of the other a part of the network is not trained."""
    one = trained(write_recipe(home, task, "one", {}))
    two = trained(write_recipe(home, task, "two", {}), processes=2)
    alone, shared = [e["loss"] for e in curve(one)], [e["loss"] for e in curve(two)]
    assert len(alone) == len(shared) > 2
    assert shared == pytest.approx(alone, rel=1e-3)
    figures = [e["figures"] for e in events(two) if e["event"] == "evaluation"]
    assert len(figures) == 2
    assert set(figures[-1]) == FIGURES[task]


def test_a_run_that_is_killed_goes_on_exactly(home: Path) -> None:
    """Of the task that draws its texts anew in every epoch."""
    task = "vle-itm"
    settings = {"epochs": 16, "evaluate_every": 8}
    whole = trained(write_recipe(home, task, "whole", settings, dropout=0.1))
    recipe = write_recipe(home, task, "killed", settings, dropout=0.1)
    out = recipe.with_suffix("")
    process = start(recipe, out)
    while process.poll() is None and not sum(1 for _ in (out / "checkpoints").glob("step-*-epoch-0004")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "final").exists()
    assert trained(recipe) == out
    assert events(out) == events(whole)
    mine, theirs = (load_file(folder / "final/model.safetensors") for folder in (out, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
