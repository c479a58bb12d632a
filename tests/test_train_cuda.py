"""The loop on a GPU: every precision learns, and a run that was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from featx.errors import Interrupted
from featx.train import TrainConfig, seed_everything, train
from tests.conftest import absent
from tests.toy_task import Toy, events, make_store


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        absent("torch finds no GPU", "FEATX_REQUIRE_CUDA")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_precision_learns_and_goes_on_after_a_stop(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store")
    settings: dict[str, Any] = {"epochs": 20, "batch": 8, "lr": 0.05, "clip": 1.0, "accumulate": 2, "seed": 1}

    def run(name: str) -> None:
        seed_everything(1)
        train(Toy(dropout=0.1), store, TrainConfig(**settings, device="cuda", precision=precision), tmp_path / name)

    run("whole")
    losses = [event["loss"] for event in events(tmp_path / "whole") if event["event"] == "epoch"]
    assert losses[-1] < 0.7 * losses[0]
    with monkeypatch.context() as patch:
        patch.setenv("TOY_SIGNAL", "55 SIGTERM")
        with pytest.raises(Interrupted):
            run("stopped")
    run("stopped")
    whole, stopped = (
        [event["loss"] for event in events(tmp_path / name) if event["event"] == "epoch"]
        for name in ("whole", "stopped")
    )
    assert stopped == pytest.approx(whole, rel=1e-3)
