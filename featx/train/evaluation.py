"""Predictions and scores of a split, shared out over the processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from featx.errors import FeatxError
from featx.task import Task
from featx.train.distributed import World

Item = TypeVar("Item")


def rounds(count: int, world: World, size: int) -> list[range]:
    """Indices of each batch of this process: ``rank::world`` in batches of ``size``; as many in every process."""
    mine = range(world.rank, count, world.size)
    longest = -(-count // world.size)
    return [mine[start : start + size] for start in range(0, longest, size)]


def predictions(
    task: Task,
    feed: Iterable[Item | None],
    count: int,
    world: World,
    forward: Callable[[Item], list[Any]],
    stop: Callable[[], bool],
) -> list[Any] | None:
    """One prediction for each example, in order, in every process; None when ``stop`` said so.

    Predictions are taken through JSON, also in a single process, so that ``Task.metric`` sees the same objects however
    many there are. Raises FeatxError for one that is not JSON-able, or when their number is not that of the examples.
    """
    mine: list[Any] = []
    for item in feed:
        if world.any(stop()):
            return None
        if item is not None:
            mine += forward(item)
    expected = len(range(world.rank, count, world.size))
    if len(mine) != expected:
        raise FeatxError(
            f"task {task.name} made {len(mine)} predictions for {expected} examples",
            "its predict() must return one prediction for each example of a batch",
        )
    everyone = [json.loads(data) for data in world.gather_bytes(_dump(mine, task))]
    ordered: list[Any] = [None] * count
    for rank, found in enumerate(everyone):
        ordered[rank :: world.size] = found
    return ordered


def _dump(found: Sequence[Any], task: Task) -> bytes:
    try:
        return json.dumps(found).encode()
    except (TypeError, ValueError) as error:
        raise FeatxError(
            f"a prediction of task {task.name} is not JSON: {error}", "return numbers, text, lists and mappings only"
        ) from None


def scores(task: Task, examples: Sequence[Any], found: Sequence[Any], world: World) -> dict[str, float]:
    """``Task.metric``, computed by the first process and known to all."""
    figures: dict[str, float] = world.by_first(
        lambda: {name: float(value) for name, value in task.metric(examples, found).items()}
    )
    if not figures:
        raise FeatxError(
            f"the metric of task {task.name} returned no score", "the first score says which model is best"
        )
    return figures


@torch.no_grad()
def evaluate(
    task: Task,
    examples: Sequence[Any],
    feed: Iterable[Item | None],
    world: World,
    forward: Callable[[Item], list[Any]],
    stop: Callable[[], bool],
) -> dict[str, float] | None:
    """Scores of ``examples``, whose batches ``feed`` brings; None when ``stop`` said so. The model is left training."""
    task.model.eval()
    try:
        found = predictions(task, feed, len(examples), world, forward, stop)
    finally:
        task.model.train()
    return None if found is None else scores(task, examples, found, world)
