"""NumPy's ``.npy`` (numpy/lib/_format_impl.py): plain numbers only, and nothing in it is evaluated.

``\\x93NUMPY``, version (1.0, 2.0 or 3.0), length of the header (u16, or u32 from 2.0 on), a header such as
``{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }``, and the numbers.
"""

from __future__ import annotations

import io
import re
from math import prod

import numpy as np

from featx.schema import Array

_MAGIC = b"\x93NUMPY"
_LONGEST = 1 << 16  # bytes of a header
_HEADER = re.compile(
    rb"\{\s*'descr'\s*:\s*'([<>|=]?[fiub]\d)'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    rb"\s*'shape'\s*:\s*\(([\d\s,]*)\)\s*,?\s*\}\s*"
)


def dumped(array: Array) -> bytes:
    """The bytes of an array."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def loaded(data: bytes) -> Array:
    """The array in ``data``, read-only. Raises ValueError for what is none, or is no array of numbers."""
    wide = data[6:7] > b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if data[:6] != _MAGIC or length > min(_LONGEST, len(data) - start):
        raise ValueError(f"{len(data)} bytes that begin with {data[:8]!r} are no npy, or not all of one")
    found = _HEADER.fullmatch(data[start : start + length])
    if not found:
        raise ValueError(f"its header {data[start : start + length].strip()!r:.120} tells of no array of numbers")
    shape = tuple(int(side) for side in found[3].split(b",") if side.strip())
    try:
        dtype = np.dtype(found[1].decode())
    except TypeError as error:
        raise ValueError(str(error)) from None
    if len(shape) > 8 or prod(shape) * dtype.itemsize != len(data) - start - length:
        raise ValueError(f"{dtype}{list(shape)} has {len(data) - start - length} bytes")
    return np.frombuffer(data, dtype, prod(shape), start + length).reshape(
        shape, order="F" if found[2] == b"True" else "C"
    )
