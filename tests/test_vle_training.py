"""`featx train` on matching: two processes learn what one learns; tests/test_cached_tasks.py stops and resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import vle_toys as toys
from tests.test_lxmert_training import curve, trained
from tests.test_vle_tasks import MORE
from tests.toy_task import events

TRAIN: dict[str, Any] = {"epochs": 2, "batch": 12, "lr": 2e-3, "clip": 1.0, "log_every": 1, "workers": 1, "seed": 5}
FIGURES = {"accuracy", "average precision", "always the same"}


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


def test_two_processes_learn_what_one_learns(home: Path) -> None:
    """It draws its texts anew in every epoch."""
    task = "vle-itm"
    one = trained(write_recipe(home, task, "one", {}))
    two = trained(write_recipe(home, task, "two", {}), processes=2)
    alone, shared = [e["loss"] for e in curve(one)], [e["loss"] for e in curve(two)]
    assert len(alone) == len(shared) > 2
    assert shared == pytest.approx(alone, rel=1e-3)
    figures = [e["figures"] for e in events(two) if e["event"] == "evaluation"]
    assert len(figures) == 2
    assert set(figures[-1]) == FIGURES
