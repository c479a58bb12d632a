"""What holds for every task that reads a store, whatever it is called: it learns by heart, and goes on exactly."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from featx.errors import Interrupted
from featx.registry import load, plugins
from featx.task import Batch, Split, Task
from featx.train import TrainConfig, seed_everything, train
from tests.cached_toys import LOOK_AT_PICTURES, TOYS, options_of
from tests.toy_task import events

EXAMPLES, BATCH = 8, 4
STEPS = EXAMPLES // BATCH  # of an epoch
TRAIN: dict[str, Any] = {"epochs": 60, "batch": BATCH, "lr": 5e-3, "clip": 1.0, "workers": 1, "seed": 3, "log_every": 1}


def built(task: str, options: dict[str, Any], stop_at: int = 0) -> Task:
    """The task with its first examples; at a call of the loss it sends the process the signal to stop."""
    seed_everything(3)
    made: Task = load("featx.tasks", task).from_options(options)
    examples, loss, calls = made.examples, made.loss, [0]

    def first(split: Split) -> Sequence[Any]:
        return examples(split)[:EXAMPLES]

    def stopping(batch: Batch) -> Any:
        calls[0] += 1
        if calls[0] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(batch)

    made.examples, made.loss = first, stopping  # type: ignore[method-assign]
    return made


def settings(task: str, **changes: Any) -> TrainConfig:
    return TrainConfig.from_dict({**TRAIN, **TOYS[task].train, **changes})


def test_every_task_has_a_toy_or_reads_no_store() -> None:
    assert {entry.name for entry in plugins("featx.tasks")} - LOOK_AT_PICTURES == TOYS.keys()


@pytest.mark.parametrize("task", TOYS)
def test_eight_examples_are_learned_by_heart(task: str, tmp_path: Path) -> None:
    options = options_of(task, tmp_path / "data", EXAMPLES, dropout=0.0)
    made = built(task, options)
    assert made.wants() is not None
    assert len(made.examples("train")) == EXAMPLES
    train(made, options["store"], settings(task, evaluate_every=None), tmp_path / "run")
    losses = [event["loss"] for event in events(tmp_path / "run") if event["event"] == "epoch"]
    assert sum(losses[-5:]) / 5 < TOYS[task].left * losses[0]


@pytest.mark.parametrize("task", TOYS)
def test_two_epochs_equal_one_and_another_after_a_stop(task: str, tmp_path: Path) -> None:
    options = options_of(task, tmp_path / "data", EXAMPLES, dropout=0.2)
    config, store = settings(task, epochs=2, batch=BATCH), options["store"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(built(task, options), store, config, whole)
    with pytest.raises(Interrupted, match=f"stopped after step {STEPS} of {2 * STEPS}"):
        train(built(task, options, stop_at=STEPS), store, config, parts)
    assert not (parts / "final").exists()
    train(built(task, options), store, config, parts)
    assert content(parts) == content(whole)


def content(out: Path) -> dict[str, Any]:
    """All that must not depend on whether a run was stopped, to the last bit."""
    last = sorted((out / "checkpoints").glob("step-*"))[-1]
    files = [out / "final/model.safetensors", out / "best/model.safetensors"]
    files += [last / "model.safetensors", last / "state.safetensors"]
    return {"events": events(out), **{str(path.relative_to(out)): path.read_bytes() for path in files}}
