"""Two records of one picture, side by side."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from featx.care.box_step import explain_boxes
from featx.care.feature_step import cosines, explain_features
from featx.care.steps import FINAL, Reason
from featx.record import Record
from featx.schema import Array

_IDS, _CONFS = ("object_ids", "attribute_ids"), ("object_confs", "attribute_confs")


@dataclass
class Comparison:
    """What :func:`compare` found in the records of ``key``.

    equal: whether all that belongs to their regions has equal values, in whatever dtype. counts: regions of both.
    overlap, cosine, apart: of each pair of regions that are the same: overlap of the boxes, cosine and largest absolute
    difference of the features. shift: largest difference of their coordinates, pixels. confs: largest difference of
    confidences. rest: of every other field that differs, by name; inf for a field of one record only, of another shape,
    or of whole numbers that are not equal. agree: (how many ids are equal, of how many) by field. offset: sum of the
    features' differences ``[D]`` and of their squares.
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
    rest: dict[str, float] = field(default_factory=dict)
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
        """Whether any number differs by more than ``tolerance`` (features, pixels, ...), or anything else at all."""
        if self.equal:
            return False
        numbers = (self.shift, self.confs, *self.rest.values(), float(self.apart.max(initial=0)))
        ids = any(equal < total for equal, total in self.agree.values())
        rows = self.counts[0] != self.counts[1] or len(self.overlap) < max(self.counts)
        final = any(reason.step in FINAL for reason in self.reasons)
        return rows or ids or final or not all(number <= tolerance for number in numbers)  # no NaN is


def compare(key: str, first: Record, second: Record, pictures: Container[str] = ()) -> Comparison:
    """Pair the regions of two records of one picture, and find the steps in which they differ.

    pictures: the names of fields that are of the picture, not of its regions.
    """
    counts = (first.count, second.count)
    if first == second:
        rows = np.ones(first.count)
        ids = {name: (first.extra[name][: first.count].size,) * 2 for name in _IDS if name in first.extra}
        return Comparison(key, True, counts, overlap=rows, cosine=rows, apart=np.zeros(first.count), agree=ids)
    made = Comparison(key, False, counts, _sizes(first, second))
    pairs = explain_boxes(first, second)
    made.reasons += pairs.reasons
    made.overlap = pairs.overlap
    made.shift = _apart(first.boxes[pairs.rows], second.boxes[pairs.others])
    _features(made, first.features[pairs.rows], second.features[pairs.others])
    _lacking(made, first, second)
    fields = {
        name: (first.extra[name], second.extra[name])
        if name in pictures
        else (first.extra[name][pairs.rows], second.extra[name][pairs.others])
        for name in first.extra
        if name in second.extra
    }
    for name in _IDS:
        if name in fields:
            _agreement(made, name, *fields.pop(name))
    _confidences(made, [fields.pop(name) for name in _CONFS if name in fields])
    _rest(made, fields)
    made.equal = not made.reasons and not made.differs(0)
    return made


def _features(made: Comparison, x: Array, y: Array) -> None:
    """Compare features of the same regions. Where the boxes are others, features must be, and say nothing."""
    steps = {reason.step for reason in made.reasons}
    if x.shape != y.shape:
        made.rest["features"] = np.inf
    elif len(x):
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
    if x.shape != y.shape:
        _rest(made, {name: (x, y)})
        return
    made.agree[name] = (int((x == y).sum()), x.size)
    if (x == y).all() or _strangers(made):
        return
    for backwards, one, other in ((False, x, y), (True, y, x)):
        if (other == one + 1).all():
            made.reasons.append(Reason("ids from one", backwards))
            return
        if name == "attribute_ids" and not other.any() and one.any():
            made.reasons.append(Reason("no attributes", backwards))
            return
    made.reasons.append(Reason("other attributes" if name == "attribute_ids" else "other ids"))


def _confidences(made: Comparison, fields: list[tuple[Array, Array]]) -> None:
    made.confs = max((_apart(x, y) for x, y in fields), default=0.0)
    if made.confs and not _strangers(made):
        made.reasons.append(Reason("confidences", number=made.confs))


def _lacking(made: Comparison, first: Record, second: Record) -> None:
    """Fields that only one of the records has."""
    for backwards, one, other in ((False, first, second), (True, second, first)):
        lacking = [name for name in one.extra if name not in other.extra]
        if lacking:
            made.rest |= dict.fromkeys(lacking, np.inf)
            made.reasons.append(Reason("fewer fields", backwards))


def _rest(made: Comparison, fields: dict[str, tuple[Array, Array]]) -> None:
    """Fields that have no step of their own."""
    apart = {name: number for name, pair in fields.items() if (number := _apart(*pair))}
    made.rest |= apart
    if apart and not _strangers(made):
        made.reasons.append(Reason("other fields"))


def _apart(x: Array, y: Array) -> float:
    """Largest difference of two arrays; inf for other shapes, for whole numbers not all equal, and beside a NaN."""
    if x.shape != y.shape:
        return np.inf
    if np.array_equal(x, y):
        return 0.0
    if x.dtype.kind != "f" and y.dtype.kind != "f":
        return np.inf
    apart = np.abs(x.astype(np.float64) - y)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0))


def _strangers(made: Comparison) -> bool:
    """Whether the regions are others, so that what is in them must be, too, and says nothing."""
    return any(reason.step == "other boxes" for reason in made.reasons)


def _sizes(first: Record, second: Record) -> list[Reason]:
    """What two sizes of one picture tell."""
    if first.size == second.size:
        return []
    return [Reason("size" if first.size == second.size[::-1] else "other size")]
