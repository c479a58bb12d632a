"""How a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What ``train`` returns, and the last line of log.jsonl.

    steps, epochs: done in all, by however many processes one after another. reason: ``epochs``, ``max_steps`` or
    ``patience``. figures: of the last evaluation. best: the best, ``{"name", "value", "epoch", "step", "figures"}``,
    None without evaluation. A score that is not finite is None. seconds: of training in all; data: the part of
    them that was spent waiting for data, 0 to 1, by the process that waited longest.
    """

    out: str
    steps: int
    epochs: int
    reason: str
    figures: Mapping[str, float | None]
    best: Mapping[str, Any] | None
    seconds: float
    data: float

    @classmethod
    def of(cls, event: Mapping[str, Any], out: str) -> Outcome:
        """From the ``end`` event of a run."""
        told = {name: event[name] for name in ("reason", "figures", "best")}
        return cls(out, event["step"], event["epoch"], **told, **event["time"])

    def __str__(self) -> str:
        text = f"{_count(self.epochs, 'epoch')}, {_count(self.steps, 'step')}; "
        text += f"{timedelta(seconds=round(self.seconds))} of training, {self.data:.1%} of it waiting for data"
        if self.best is not None:
            text += f"; best {self.best['name']} {self.best['value']:.4g} after epoch {self.best['epoch']}"
        return f"{text}; see {self.out}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
