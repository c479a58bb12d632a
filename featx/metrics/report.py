"""Means over all questions and over the questions of each kind."""

from __future__ import annotations

from typing import Any

from featx.errors import UsageError


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
