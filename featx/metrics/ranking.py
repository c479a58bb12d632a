"""How well scores put the positives first. Two dozen lines instead of scikit-learn, whose results they equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featx.errors import UsageError


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """Sum over the thresholds of (gain in recall) x precision, from 0 to 1; equal scores are one threshold.

    No interpolation, as in scikit-learn's ``average_precision_score``. Raises UsageError without a positive.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked, hits = np.asarray(scores, np.float64)[order], np.cumsum(np.asarray(positive, bool)[order])
    if not len(hits) or not hits[-1]:
        raise UsageError("average precision needs at least one positive", "give questions of both kinds")
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # of every run of equal scores
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def f1(positive: Sequence[bool], chosen: Sequence[bool]) -> float:
    """Harmonic mean of precision and recall, from 0 to 1; 0 when nothing is positive and nothing chosen."""
    right = sum(p and c for p, c in zip(positive, chosen, strict=True))
    total = sum(positive) + sum(chosen)
    return 2 * right / total if total else 0.0
