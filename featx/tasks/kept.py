"""What weights know of a list of answers that is not their own."""

from __future__ import annotations

from featx.data import AnswerSpace


def kept(new: AnswerSpace, old: AnswerSpace, weights: str | None) -> tuple[list[int], str]:
    """For each answer of ``new`` its class in ``old`` or -1, and in words how many of them ``weights`` knows."""
    rows = new.remap(old, str).tolist()
    known = sum(row >= 0 for row in rows)
    others = ": the others begin at zero" if known < len(new) else ""
    return rows, f"of {len(new)} answers, {weights} knows {known}{others}"
