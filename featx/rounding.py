"""Stored dtypes that numpy does not have: bfloat16, and int8 with a scale for each row.

bfloat16 is the upper half of a float32, rounded to nearest even; widening it back is exact.

int8 is a code ``q`` of 0 to 255 for each value, with two numbers for each row (each box of a picture)::

    x' = scale * (q - zero)

``zero`` is a whole number in 0..255, the code of an exact 0, which stays exactly 0: a row without negative values has
zero 0 and spends all its codes on what is positive. ``|x - x'| <= scale / 2`` for every value, where scale is the
range of the row, 0 included, divided by 255. scale has 16 significant bits (it is rounded up to them) and is at least
2**-126, so ``scale * (q - zero)`` is exact in float32: every reader gets the same bits, fused arithmetic or not, and
what was read encodes to the same values again. It is affine quantisation as in Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018), section 2.1, per row.
"""

from __future__ import annotations

import numpy as np

from featx.errors import RecordError
from featx.schema import Array

_LEVELS = 255  # steps between the first code and the last
_BITS = 2.0**16  # of a scale: times a difference of two codes they fill the 24 bits of a float32
_LEAST = 2.0**-126  # the smallest normal float32; below it bits are lost
_MOST = float(np.finfo(np.float32).max)


def to_bfloat16(array: Array, name: str) -> Array:
    """The uint16 bits of float32 values rounded to bfloat16. Raises RecordError, naming the field, beyond its range."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    out: Array = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    if ((out & 0x7F80) == 0x7F80).any():
        raise RecordError(f"field {name!r} holds a value beyond the range of bfloat16 (3.39e38)", "store it as float32")
    return out


def from_bfloat16(bits: Array) -> Array:
    """float32 of the uint16 bits of bfloat16 values, exact."""
    wide: Array = (bits.astype("<u4") << 16).view("<f4")
    return wide


def to_int8(array: Array, name: str) -> tuple[Array, Array]:
    """Scales float32 ``[N, 2]`` (scale, zero) and codes uint8 ``[N, D]`` of float32 values ``[N, D]``.

    Raises RecordError, naming the field, for what is not finite or would read back as infinity. A row of zeros has
    scale 0 and zero 0.
    """
    values = np.asarray(array, np.float64)
    low, high = values.min(1, initial=0), values.max(1, initial=0)
    if not np.isfinite(high - low).all():
        raise RecordError(f"field {name!r} holds NaN or infinity, which int8 cannot", "check the weights")
    scale = _scales(values, low, high)
    steps = np.where(scale > 0, scale, 1)
    zero = np.abs(np.rint(low / steps))  # no minus zero
    codes = np.clip(np.rint(values / steps[:, None]) + zero[:, None], 0, _LEVELS)
    if (np.maximum(zero, codes.max(1, initial=0) - zero) * scale > _MOST).any():
        raise RecordError(f"field {name!r} holds a value beyond the range of int8 (3.4e38)", "store it as float32")
    return np.stack([scale, zero], 1).astype("<f4"), codes.astype("u1")


def from_int8(scales: Array, codes: Array) -> Array:
    """float32 ``[N, D]``: ``scale * (q - zero)`` for each row, in float32."""
    values: Array = codes.astype("<f4")
    values -= scales[:, 1:]
    values *= scales[:, :1]
    return values


def rounded(array: Array, dtype: str, name: str) -> Array:
    """float32 ``[N, D]`` as it will read back from a field of the stored ``dtype`` (bfloat16, int8); others pass."""
    if dtype == "bfloat16":
        return from_bfloat16(to_bfloat16(array, name))
    return from_int8(*to_int8(array, name)) if dtype == "int8" else array


def _scales(values: Array, low: Array, high: Array) -> Array:
    """The scale of each row.

    Where both signs occur, both ends of a row may round inwards and leave it 254 steps wide. A row that lies on such
    a grid keeps it; otherwise its values would move again each time that they are stored.
    """
    scale: Array = np.where(high > low, np.maximum(_rounded_up((high - low) / _LEVELS), _LEAST), 0)
    coarse = (high - low) / (_LEVELS - 1)
    kept = (low < 0) & (high > 0) & (coarse >= _LEAST) & (_rounded_up(coarse) == coarse)
    for row in np.flatnonzero(kept):
        steps = values[row] / coarse[row]
        if (steps == np.rint(steps)).all():
            scale[row] = coarse[row]
    return scale


def _rounded_up(values: Array) -> Array:
    """To 16 significant bits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.ceil(mantissa * _BITS) / _BITS, exponent)
