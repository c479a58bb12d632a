"""`featx train` on VCR: two processes learn what one learns; tests/test_cached_tasks.py stops and resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import featx
from tests import vcr_toys
from tests import vle_toys as toys
from tests.test_lxmert_training import curve, trained
from tests.toy_task import events

TRAIN: dict[str, Any] = {"epochs": 2, "batch": 4, "lr": 2e-3, "clip": 1.0, "log_every": 1, "workers": 1, "seed": 5}
FIGURES = {"Q->AR", "Q->A", "QA->R"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vcr")
    toys.make_store(home / "store")
    vcr_toys.write(home / "data", 12)
    return home


def write_recipe(home: Path, name: str, train: dict[str, Any], dropout: float = 0.0) -> Path:
    model = {"hidden": 16, "heads": 2, "layers": [1, 1], "init_std": 0.15, "dropout": dropout,
             "tokenizer": {"size": 200}, "max_length": 48}  # fmt: skip
    spec = {"vcr": str(home / "data/items.jsonl"), "pictures": str(home / "data")}
    recipe = {"task": "vle-vcr", "store": str(home / "store"), "model": model, "rates": {"cross_modal": 2},
              "data": {"train": spec, "val": spec}, "train": {**TRAIN, **train}}  # fmt: skip
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_two_processes_learn_what_one_learns_and_what_is_exported_chooses(home: Path) -> None:
    one, two = trained(write_recipe(home, "one", {})), trained(write_recipe(home, "two", {}), processes=2)
    alone, shared = [e["loss"] for e in curve(one)], [e["loss"] for e in curve(two)]
    assert len(alone) == len(shared) > 2
    assert shared == pytest.approx(alone, rel=1e-3)
    figures = [e["figures"] for e in events(two) if e["event"] == "evaluation"]
    assert [set(found) for found in figures] == [FIGURES, FIGURES]
    chooser = featx.Chooser(one / "final", home / "store")
    assert chooser.sight.notes == []
    (found,) = chooser(home / "data", vcr_toys.item(0))
    assert len(found["score"]) == 4
