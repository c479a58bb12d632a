"""`featx train` on captions: two processes learn what one learns; tests/test_cached_tasks.py stops and resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import mbart_toys as toys
from tests.test_lxmert_training import curve, trained
from tests.toy_task import events

TRAIN: dict[str, Any] = {"epochs": 4, "batch": 6, "lr": 5e-3, "clip": 1.0, "log_every": 1, "workers": 1, "seed": 5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("captions")
    toys.make_store(home / "store")
    toys.write_captions(home)
    return home


def write_recipe(home: Path, name: str, train: dict[str, Any], dropout: float = 0.0) -> Path:
    model = {"hidden": 24, "heads": 4, "feedforward": 48, "layers": 1, "init_std": 0.3, "dropout": dropout,
             "tokenizer": {"size": 200}, "max_length": 20}  # fmt: skip
    specs = [{"captions": str(home / f"captions_{code}.json"), "language": code} for code in toys.TEXTS]
    path = home / f"{name}.yaml"
    recipe = {"task": "clip-mbart-captions", "store": str(home / "store"), "model": model,
              "data": {"train": specs, "val": specs}, "train": {**TRAIN, **train}}  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_two_processes_learn_what_one_learns(home: Path) -> None:
    """Losses are means over tokens, of which halves of a batch may have different numbers: they differ a little."""
    one = trained(write_recipe(home, "one", {}))
    two = trained(write_recipe(home, "two", {}), processes=2)
    alone, shared = [e["loss"] for e in curve(one)], [e["loss"] for e in curve(two)]
    assert len(alone) == len(shared) == 12
    assert shared == pytest.approx(alone, rel=0.1)
    assert sum(alone[-3:]) < 0.75 * sum(alone[:3]), "nothing was learnt"
    figures = [e["figures"] for e in events(two) if e["event"] == "evaluation"]
    assert len(figures) == 4
    assert set(figures[-1]) == {"bleu4"} | {f"bleu{n} {name}" for n in (1, 2, 3, 4) for name in toys.TEXTS}
