"""Losses between the step that made them and the line that tells them.

Values stay on the device until they are needed, so that a GPU is not waited for at every step. What waits is part of a
checkpoint: a resumed run writes the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from featx.errors import FeatxError
from featx.train.distributed import World

Values = dict[str, float]


class Meter:
    """Collects the scalars of each step: loss, its parts, norm of the gradient.

    lenient: an infinite norm is no fault (a scaled float16 loss overflows now and then, and skips the step).
    advice: what to do when the loss is no longer a number.
    """

    def __init__(self, world: World, *, lenient: bool, advice: Callable[[], str]) -> None:
        self._world, self._lenient, self._advice = world, lenient, advice
        self._fresh: list[tuple[int, Mapping[str, torch.Tensor]]] = []
        self._waiting: list[Values] = []
        self._total, self._count = 0.0, 0

    def add(self, step: int, scalars: Mapping[str, torch.Tensor]) -> None:
        """Take the scalars of a step, counted from 1, as they are on the device."""
        self._fresh.append((step, scalars))

    def fetch(self) -> None:
        """Bring everything to this machine's memory, the mean over all processes.

        Every process must call this at the same step. Raises FeatxError for a loss or gradient that is not finite.
        """
        if not self._fresh:
            return
        names = [list(scalars) for _, scalars in self._fresh]
        flat = torch.stack([value.double() for _, scalars in self._fresh for value in scalars.values()]).tolist()
        values = iter(flat)
        rows = [{name: next(values) for name in row} for row in names]
        gathered = self._world.gather(rows)
        for (step, _), *everyone in zip(self._fresh, *gathered, strict=True):
            row = _mean(everyone)
            self._check(step, row)
            self._waiting.append(row)
            self._total, self._count = self._total + row["loss"], self._count + 1
        self._fresh.clear()

    def line(self) -> dict[str, Any]:
        """Means over the steps since the last line; they are forgotten."""
        self.fetch()
        means, self._waiting = _mean(self._waiting), []
        loss, norm = means.pop("loss"), means.pop("norm")
        return {"loss": loss, **({"parts": means} if means else {}), "norm": norm}

    def epoch(self) -> float:
        """Mean loss over the steps since the last epoch; they are forgotten."""
        mean = self._total / self._count
        self._total, self._count = 0.0, 0
        return mean

    def state(self) -> dict[str, Any]:
        """JSON form of what waits."""
        return {"waiting": self._waiting, "total": self._total, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to a former :meth:`state`."""
        self._waiting = [dict(row) for row in state["waiting"]]
        self._total, self._count = state["total"], state["count"]

    def _check(self, step: int, row: Values) -> None:
        for name in ("loss",) if self._lenient else ("loss", "norm"):
            if not math.isfinite(row[name]):
                what = "the loss" if name == "loss" else "the norm of the gradient"
                raise FeatxError(f"{what} became {row[name]} at step {step}", self._advice())


def _mean(rows: list[Values]) -> Values:
    """The mean of each name over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: math.fsum(found) / len(found) for name in names if (found := [r[name] for r in rows if name in r])}
