"""What tells the features of the same regions apart."""

from __future__ import annotations

import numpy as np

from featx.care.steps import Reason
from featx.errors import FeatxError
from featx.rounding import from_bfloat16, to_bfloat16
from featx.schema import Array

_FACTOR = 1e-3  # relative error left when one vector is a multiple of the other
_NOISE, _PRECISION = 2e-5, 3e-2  # relative: of float32 arithmetic in another order; of arithmetic with 8 bits or more
_ALIKE = 0.3  # cosine below which two features have nothing in common


def explain_features(a: Array, b: Array) -> Reason | None:
    """Why the features ``[P, D]`` of the same P regions differ; None when they do not."""
    if np.array_equal(a, b):
        return None
    if a.shape != b.shape:
        return Reason("other network")
    x, y = a.astype(np.float32), b.astype(np.float32)
    for step, codec in (("codec float16", _half), ("codec bfloat16", _bfloat), ("codec int8", _eight)):
        for backwards, one, other in ((False, x, y), (True, y, x)):
            if codec(one, other):
                return Reason(step, backwards)
    if _same_rows(x, y):
        return Reason("feature rows")
    for backwards, one, other in ((False, x, y), (True, y, x)):
        if (one < 0).any() and np.array_equal(np.maximum(one, 0), other):
            return Reason("feature relu", backwards)
        reason = _multiple(one, other)
        if reason:
            return reason._replace(backwards=backwards)
    return _degree(x, y)


def cosines(a: Array, b: Array) -> Array:
    """Cosine of the angle between rows, float64 ``[P]``; 1 for two zero rows, 0 for one."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    dots = (x * y).sum(axis=1)
    both = (x == 0).all(axis=1) & (y == 0).all(axis=1)
    return np.asarray(np.where(both, 1.0, np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)))


def _half(x: Array, y: Array) -> bool:
    """Whether rounding to float16 makes ``y`` of ``x``."""
    with np.errstate(over="ignore"):
        return np.array_equal(x.astype(np.float16).astype(np.float32), y)


def _bfloat(x: Array, y: Array) -> bool:
    """The same for bfloat16."""
    try:
        return np.array_equal(from_bfloat16(to_bfloat16(x, "features")), y)
    except FeatxError:
        return False


def _eight(x: Array, y: Array) -> bool:
    """Whether each row of ``y`` lies on 256 levels, none farther than half a step from ``x``."""
    step = (y.max(axis=1, initial=0) - y.min(axis=1, initial=0))[:, None] / 255
    levels = np.divide(y, step, out=np.zeros_like(y), where=step > 0)
    return bool((np.abs(levels - np.rint(levels)) < 0.01).all() and (np.abs(x - y) <= 0.51 * step).all())


def _same_rows(x: Array, y: Array) -> bool:
    """Whether both have the same rows, in another order."""
    rows = [sorted(row.tobytes() for row in array) for array in (x, y)]
    return rows[0] == rows[1]


def _multiple(x: Array, y: Array) -> Reason | None:
    """Whether ``y`` is ``x`` times one number, or each row of it divided by its norm."""
    norms = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    scaled = np.divide(x, norms, out=np.zeros(x.shape), where=norms > 0)
    if _relative(scaled, y) < _FACTOR and _relative(x, y) > 2 * _FACTOR:
        return Reason("feature norm")
    square = float((x.astype(np.float64) ** 2).sum())
    factor = float((x.astype(np.float64) * y).sum()) / square if square else 0.0
    if factor > 0 and abs(factor - 1) > 5 * _FACTOR and _relative(factor * x, y) < _FACTOR:
        return Reason("feature factor", number=factor)
    return None


def _degree(x: Array, y: Array) -> Reason:
    """By how much they differ."""
    relative = _relative(x, y)
    if relative < _NOISE:
        return Reason("feature noise", number=relative)
    if relative < _PRECISION:
        return Reason("feature precision", number=relative)
    return Reason("other input" if float(np.median(cosines(x, y))) >= _ALIKE else "other network")


def _relative(x: Array, y: Array) -> float:
    """Norm of the difference over that of ``y``."""
    norm = float(np.linalg.norm(y.astype(np.float64)))
    return float(np.linalg.norm(x.astype(np.float64) - y)) / norm if norm else np.inf
