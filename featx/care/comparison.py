"""Two records of one picture, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featx.care.box_step import explain_boxes
from featx.care.feature_step import cosines, explain_features
from featx.care.steps import Reason
from featx.record import Record
from featx.schema import Array


@dataclass
class Comparison:
    """What :func:`compare` found in the records of ``key``.

    equal: whether all arrays have equal values. counts: regions of both. overlap, cosine, apart: of each pair of
    regions that are the same: overlap of the boxes, cosine and largest absolute difference of the features. shift:
    largest difference of their coordinates, pixels. confs: largest difference of confidences. agree: (how many ids are
    equal, of how many) by field. offset: sum of the features' differences ``[D]`` and of their squares.
    """

    key: str
    equal: bool
    counts: tuple[int, int]
    reasons: list[Reason] = field(default_factory=list)
    overlap: Array = field(default_factory=lambda: np.zeros(0))
    cosine: Array = field(default_factory=lambda: np.zeros(0))
    apart: Array = field(default_factory=lambda: np.zeros(0))
    relative: float = 0.0
    shift: float = 0.0
    confs: float = 0.0
    agree: dict[str, tuple[int, int]] = field(default_factory=dict)
    offset: tuple[Array, float, int] | None = None

    @property
    def badness(self) -> float:
        """0 for equal records, 1 for those without a region in common: how much of the regions is not the same."""
        most = max(self.counts)
        alike = (
            float((self.overlap * np.clip(self.cosine, 0, 1)).sum()) if len(self.cosine) else float(len(self.overlap))
        )
        return 1 - alike / most if most else 0.0

    def differs(self, tolerance: float) -> bool:
        """Whether anything differs by more than ``tolerance`` (features, confidences, pixels), or at all (the rest)."""
        if self.equal:
            return False
        numbers = max(self.shift, self.confs, float(self.apart.max(initial=0)))
        ids = any(equal < total for equal, total in self.agree.values())
        steps = {reason.step for reason in self.reasons}
        rows = self.counts[0] != self.counts[1] or len(self.overlap) < max(self.counts)
        return rows or ids or numbers > tolerance or bool(steps & {"box order", "size", "other size", "feature rows"})


def compare(key: str, first: Record, second: Record) -> Comparison:
    """Pair the regions of two records of one picture, and find the steps in which they differ."""
    counts = (first.count, second.count)
    if first == second:
        rows = np.ones(first.count)
        ids = dict.fromkeys(_ids(first), (first.count, first.count))
        return Comparison(key, True, counts, overlap=rows, cosine=rows, apart=np.zeros(first.count), agree=ids)
    made = Comparison(key, False, counts, _sizes(first, second))
    pairs = explain_boxes(first, second)
    made.reasons += pairs.reasons
    made.overlap = pairs.overlap
    a, b = first.boxes[pairs.rows], second.boxes[pairs.others]
    made.shift = float(np.abs(a.astype(np.float64) - b).max(initial=0))
    _features(made, first.features[pairs.rows], second.features[pairs.others], bool(pairs.reasons))
    for name in _ids(first):
        if name in second.extra:
            _agreement(made, name, first.extra[name][pairs.rows], second.extra[name][pairs.others])
    _confidences(made, first, second, pairs.rows, pairs.others)
    return made


def _features(made: Comparison, x: Array, y: Array, moved: bool) -> None:
    """Compare features of the same regions. Where the boxes are others, features must be, and say nothing."""
    steps = {reason.step for reason in made.reasons}
    same_shape = x.shape == y.shape
    if same_shape and len(x):
        made.cosine = cosines(x, y)
        difference = y.astype(np.float64) - x
        made.apart = np.abs(difference).max(axis=1, initial=0)
        norm = float(np.linalg.norm(y.astype(np.float64)))
        made.relative = float(np.linalg.norm(difference)) / norm if norm else 0.0
        made.offset = (difference.sum(axis=0), float((difference**2).sum()), len(x))
    if len(x) and not steps & {"moved", "other boxes"}:
        reason = explain_features(x, y)
        if reason is not None:
            made.reasons.append(reason)


def _agreement(made: Comparison, name: str, x: Array, y: Array) -> None:
    """Count equal ids, and say why the others differ."""
    made.agree[name] = (int((x == y).sum()), len(x))
    if not len(x) or (x == y).all() or _strangers(made):
        return
    for backwards, one, other in ((False, x, y), (True, y, x)):
        if (other == one + 1).all():
            made.reasons.append(Reason("ids from one", backwards))
            return
        if name == "attribute_ids" and not other.any() and one.any():
            made.reasons.append(Reason("no attributes", backwards))
            return
    made.reasons.append(Reason("other attributes" if name == "attribute_ids" else "other ids"))


def _confidences(made: Comparison, first: Record, second: Record, rows: Array, others: Array) -> None:
    for name in ("object_confs", "attribute_confs"):
        if name in first.extra and name in second.extra and len(rows):
            apart = np.abs(first.extra[name][rows].astype(np.float64) - second.extra[name][others])
            made.confs = max(made.confs, float(apart.max()))
    if made.confs > 0 and not _strangers(made):
        made.reasons.append(Reason("confidences", number=made.confs))


def _strangers(made: Comparison) -> bool:
    """Whether the regions are others, so that what is in them must be, too, and says nothing."""
    return any(reason.step == "other boxes" for reason in made.reasons)


def _sizes(first: Record, second: Record) -> list[Reason]:
    """What two sizes of one picture tell."""
    if first.size == second.size:
        return []
    return [Reason("size" if first.size == second.size[::-1] else "other size")]


def _ids(record: Record) -> list[str]:
    return [name for name in ("object_ids", "attribute_ids") if name in record.extra]
