"""Means over all questions and over the questions of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.data.question import Question


class Tally:
    """Collects one score per question and the kinds the question belongs to, one for each of ``kinds``."""

    def __init__(self, *kinds: str) -> None:
        self.scores: list[float] = []
        self.kinds: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}

    def add(self, score: float, *names: str) -> None:
        """One question; an empty name belongs to no kind."""
        self.scores.append(score)
        for groups, name in zip(self.kinds.values(), names, strict=True):
            if name:
                groups.setdefault(name, []).append(score)

    def report(self) -> dict[str, Any]:
        """``overall`` and ``per ...``: percentages, rounded to two digits as the official evaluations do."""
        if not self.scores:
            raise UsageError("there is no question to score", "give questions that have been answered")
        per = {f"per {kind}": {name: percent(s) for name, s in groups.items()} for kind, groups in self.kinds.items()}
        return {"questions": len(self.scores), "overall": percent(self.scores), **per}


def percent(scores: list[float]) -> float:
    """The mean in percent, two digits."""
    return round(100 * sum(scores) / len(scores), 2)


def report(
    questions: Iterable[Question],
    predictions: Mapping[int | str, Any],
    accuracy: Callable[[Question, Any], float],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """Mean accuracies. kinds: what a kind is called, and which attribute of a question names it."""
    tally = Tally(*kinds)
    for q in questions:
        tally.add(accuracy(q, predictions[q.id]), *(getattr(q, attribute) for attribute in kinds.values()))
    return tally.report()
