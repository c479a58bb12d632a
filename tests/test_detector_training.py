"""The detector in the training loop: it learns, is judged, is exported, and goes on exactly where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from featx.scenes import write_scenes
from featx.train import TrainConfig, seed_everything, train
from featx_extractors.training.task import DetectorTask
from featx_extractors.weights import load_weights

SIZES = {
    "stem": 16, "width": 8, "out": 16, "blocks": [1, 1, 1, 1], "rpn_hidden": 16, "embedding": 8, "attribute_hidden": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 8, 2, 3, ["en"], workers=1)
    return folder


def task(scenes: Path) -> DetectorTask:
    seed_everything(0)
    files = {
        split: {"annotations": str(scenes / f"annotations/instances_{split}.json"), "pictures": str(scenes / split)}
        for split in ("train", "val")
    }
    return DetectorTask.from_options(
        {
            "model": {"profile": "scenes-36", "architecture": SIZES, "sizes": [28, 64], "dtype": "float16"},
            "data": {**files, "brightness": 0.2},
            "targets": {"region_sample": 16, "proposals": 50},
        }
    )


def run(scenes: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    config = TrainConfig(**{"epochs": 2, "batch": 4, "lr": 1e-3, "workers": 1, "precision": "bfloat16"} | settings)
    outcome = train(task(scenes), None, config, out, quiet=True)
    assert "map50" in outcome.figures
    return load_file(out / "final" / "weights.safetensors")


def test_a_run_ends_with_weights_that_detect(scenes: Path, tmp_path: Path) -> None:
    run(scenes, tmp_path / "run")
    weights = load_weights(tmp_path / "run" / "final")
    assert weights.header.trained
    assert "butterfly" in (weights.header.objects or ())
    assert "map50" in (tmp_path / "run" / "best" / "card.md").read_text()


def test_a_picture_lost_in_the_middle_of_a_run_is_counted_in_its_log(scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "scenes")
    learner = task(tmp_path / "scenes")
    learner.examples("train")[3].path.unlink()
    config = TrainConfig(epochs=1, batch=4, workers=1, log_every=1)
    with pytest.warns(UserWarning, match="a blank picture takes its place"):
        outcome = train(learner, None, config, tmp_path / "run", quiet=True)
    assert "map50" in outcome.figures
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    parts = [event["parts"] for event in events if event["event"] == "train"]
    assert sum(part["unreadable"] for part in parts) == 0.25  # one of the four pictures of one step


def test_a_stopped_run_goes_on_to_the_same_weights(scenes: Path, tmp_path: Path) -> None:
    whole = run(scenes, tmp_path / "whole")
    folder = tmp_path / "parts"
    losses = task(scenes)
    calls = 0
    loss = losses.loss

    def broken(batch: Any) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyError("pulled the plug")
        return loss(batch)

    losses.loss = broken  # type: ignore[method-assign]
    config = TrainConfig(epochs=2, batch=4, lr=1e-3, workers=1, precision="bfloat16")
    with pytest.raises(KeyError):
        train(losses, None, config, folder, quiet=True)
    parts = run(scenes, folder)
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
