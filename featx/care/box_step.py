"""What tells the boxes of two records apart: each known convention is tried on one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from featx.care.matching import match
from featx.care.steps import Reason
from featx.record import Record
from featx.schema import Array

_NEAR = 1e-2  # pixels: how far a box may be from where a convention puts it
_UNIT = 2e-5  # the same for boxes in units of the picture
_SCALED = 2e-4  # the same for scaled ones, of the largest coordinate
_ROUNDED = ("whole numbers", "half boxes")  # hold exactly or not at all
_LIKE = 0.5  # share of regions that must have found one another


class Pairs(NamedTuple):
    """Rows of the first and of the second record that are the same region, the overlap of their boxes, and why the
    boxes differ (empty: they do not)."""

    rows: Array
    others: Array
    overlap: Array
    reasons: list[Reason]


def explain_boxes(first: Record, second: Record) -> Pairs:
    """The regions that two records have in common, and the step in which their boxes differ."""
    a, b = _boxes(first), _boxes(second)
    if a.shape == b.shape and np.array_equal(a, b):
        rows = np.arange(len(a))
        return Pairs(rows, rows, np.ones(len(a)), [])
    if not len(a) or not len(b):
        nothing = np.arange(0)
        return Pairs(nothing, nothing, np.zeros(0), [Reason("fewer boxes", backwards=len(a) < len(b))])
    for reason, mine, theirs in _conventions(first, second):
        fitted = _fit(mine, theirs, _tolerance(reason, theirs))
        if fitted is not None:
            rows, others = fitted
            if reason is not None and reason.step == "box noise":
                reason = reason._replace(number=float(np.abs(a[rows] - b[others]).max(initial=0)))
            return Pairs(
                rows, others, _overlap(a, b, rows, others), [*_order(a, b, rows, others), *([reason] if reason else [])]
            )
    rows, others, overlap = match(a, b)
    least = min(len(a), len(b))
    moved = len(rows) >= _LIKE * least > 0
    return Pairs(rows, others, overlap, [Reason("moved" if moved else "other boxes")])


def _conventions(first: Record, second: Record) -> Iterator[tuple[Reason | None, Array, Array]]:
    """(reason, boxes of the first as the reason has them, boxes of the second), likeliest first."""
    a, b = _boxes(first), _boxes(second)
    yield None, a, b
    yield Reason("box noise"), a, b
    for backwards, record, mine, theirs in ((False, first, a, b), (True, second, b, a)):
        for name in ("proposal_boxes", "regressed_boxes"):
            if name in record.extra:
                yield _turned("other box", backwards, record.array(name)[: record.count], theirs)
        for step, made in _made_of(mine, record.size):
            yield _turned(step, backwards, made, theirs)
    yield from _clipped(first, second)
    yield from _scaled(a, b)


def _turned(step: str, backwards: bool, made: Array, theirs: Array) -> tuple[Reason, Array, Array]:
    reason = Reason(step, backwards, {"shifted": 1.0, "half pixel": 0.5}.get(step, 0.0))
    if step == "half pixel":
        reason = reason._replace(step="shifted")
    return (reason, theirs, made) if backwards else (reason, made, theirs)


def _made_of(boxes: Array, size: tuple[int, int]) -> Iterator[tuple[str, Array]]:
    """What each convention makes of boxes in pixels."""
    height, width = size
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    yield "plus one", boxes + np.array([0, 0, 1, 1])
    yield "shifted", boxes + 1.0
    yield "half pixel", boxes + 0.5
    yield "half boxes", boxes.astype(np.float16).astype(np.float64)
    yield "whole numbers", np.rint(boxes)
    yield "whole numbers", np.floor(boxes)
    yield "unclipped", np.clip(boxes, 0, [width, height, width, height])
    yield "transposed", boxes[:, [1, 0, 3, 2]]
    yield "corner and size", np.stack([x0, y0, x1 - x0, y1 - y0], 1)
    yield "centre and size", np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)
    yield "normalised", boxes / np.array([width, height] * 2, np.float64)
    yield "normalised askew", boxes / np.array([height, width] * 2, np.float64)
    yield "mirrored", np.stack([width - x1, y0, width - x0, y1], 1)
    yield "turned", np.stack([height - y1, x0, height - y0, x1], 1)
    yield "turned", np.stack([y0, width - x1, y1, width - x0], 1)


def _clipped(first: Record, second: Record) -> Iterator[tuple[Reason | None, Array, Array]]:
    """Boxes that are equal inside the picture of W - 1 by H - 1 pixels, and differ by no more than one beyond."""
    a, b = _boxes(first), _boxes(second)
    if a.shape == b.shape and first.size == second.size and np.abs(a - b).max(initial=0) <= 1:
        most = np.array([first.size[1], first.size[0]] * 2) - 1
        yield Reason("clip"), np.minimum(a, most), np.minimum(b, most)


def _scaled(a: Array, b: Array) -> Iterator[tuple[Reason | None, Array, Array]]:
    """Boxes that differ by one factor for x and nearly the same for y."""
    if a.shape != b.shape or not len(a):
        return
    sums = [np.abs(boxes.astype(np.float64)).reshape(-1, 2, 2).sum(axis=(0, 1)) for boxes in (a, b)]
    if (sums[0] <= 0).any() or (sums[1] <= 0).any():
        return
    factors = sums[1] / sums[0]
    if abs(factors[0] / factors[1] - 1) < 0.02 and abs(factors.mean() - 1) > 1e-3:
        backwards = bool(factors.mean() < 1)
        number = float(1 / factors.mean() if backwards else factors.mean())
        yield Reason("resized frame", backwards, number), a * np.tile(factors, 2), b.astype(np.float64)


def _tolerance(reason: Reason | None, boxes: Array) -> float:
    """How far a box may be from where the reason puts it."""
    most = float(np.abs(boxes).max(initial=0))
    if reason is None or reason.step in _ROUNDED:
        return 0.0
    if reason.step == "resized frame":
        return _SCALED * most
    return _NEAR if most > 2 else _UNIT


def _fit(a: Array, b: Array, near: float) -> tuple[Array, Array] | None:
    """Rows of ``a`` and ``b`` that are equal, when every row of the shorter one has an equal of its own."""
    if a.shape == b.shape and np.abs(a - b).max() <= near:
        return np.arange(len(a)), np.arange(len(b))
    distance = np.abs(a[:, None] - b[None]).max(axis=2)
    short = distance if len(a) <= len(b) else distance.T
    best = short.argmin(axis=1)
    if short[np.arange(len(best)), best].max() > near or len(np.unique(best)) < len(best):
        return None
    rows = np.arange(len(best))
    return (rows, best) if len(a) <= len(b) else (best, rows)


def _order(a: Array, b: Array, rows: Array, others: Array) -> list[Reason]:
    """Whether the regions stand in another order, or some are absent."""
    reasons = []
    if len(a) != len(b):
        reasons.append(Reason("fewer boxes", backwards=len(a) < len(b)))
    if (np.diff(others[np.argsort(rows, kind="stable")]) < 0).any():
        reasons.append(Reason("box order"))
    return reasons


def _overlap(a: Array, b: Array, rows: Array, others: Array) -> Array:
    """Overlap of the boxes of each pair as they are stored."""
    one, two = a[rows].astype(np.float64), b[others].astype(np.float64)
    sides = np.maximum(np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2]), 0)
    common = sides.prod(axis=1)
    union = sum(np.maximum(box[:, 2:] - box[:, :2], 0).prod(axis=1) for box in (one, two)) - common
    equal = (one == two).all(axis=1)
    return np.asarray(np.where(equal, 1.0, np.divide(common, union, out=np.zeros_like(common), where=union > 0)))


def _boxes(record: Record) -> Array:
    return record.boxes[: record.count]
