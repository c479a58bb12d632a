"""npy, the file of one array: nothing is believed which the bytes do not back, and pickles are read on request only.

numpy evaluates the header as Python text and allocates what it asks for (``lib/format.py``); here it is three values of
a few characters, and what they ask for must be exactly as long as the bytes behind them. An array of objects is a
pickle, which is read by the restricted unpickler.
"""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any, NamedTuple

import numpy as np

from featx.formats.values.pickle_write import dumps
from featx.formats.values.pickles import loads
from featx.schema import Array

FRONT = 4096  # bytes in which the header of a file must end; numpy's has 64 or 128
LIMIT = 256 << 20  # bytes of an array; the features of 100 regions have 1 MB
_MAGIC = b"\x93NUMPY"
_DESCR = re.compile(rb"'descr':\s*'([<>|=]?(?:[iu][1248]|f[248]|b1)|\|?O8?)'")
_FORTRAN = re.compile(rb"'fortran_order':\s*(True|False)")
_SHAPE = re.compile(rb"'shape':\s*\(([\dL, ]{0,200})\)")


class Front(NamedTuple):
    """What the header says. dtype: None for pickled objects. begin: byte of the file at which the values begin."""

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    fortran: bool
    begin: int

    @property
    def end(self) -> int | None:
        """Length of the file in bytes; None for objects."""
        return None if self.dtype is None else self.begin + prod(self.shape) * self.dtype.itemsize


def front_of(head: bytes) -> Front:
    """The header, from the first ``FRONT`` bytes of a file, or all of a shorter one. Raises ValueError."""
    if head[:6] != _MAGIC or head[6:7] not in (b"\1", b"\2", b"\3"):
        raise ValueError(f"it begins with {head[:8]!r}, which is no npy file")
    text = 10 if head[6] == 1 else 12
    begin = text + int.from_bytes(head[8:text], "little")
    if not text < begin <= len(head):
        raise ValueError(f"it is no npy file, or not all of one: {len(head)} bytes are there of a header of {begin}")
    found = [pattern.search(head, text, begin) for pattern in (_DESCR, _FORTRAN, _SHAPE)]
    if None in found:
        raise ValueError(f"its npy header is {head[text:begin].strip()!r:.120}, which is no array of numbers")
    descr, fortran, shape = (match[1].decode() for match in found if match)
    sides = tuple(int(side) for side in shape.replace("L", "").replace(" ", "").split(",") if side)
    if len(sides) > 8:
        raise ValueError(f"its npy header has {len(sides)} axes")
    return Front(None if "O" in descr else np.dtype(descr), sides, fortran == "True", begin)


def parse(data: bytes, what: str, *, allow_pickle: bool = False) -> Array:
    """The array in the bytes of a file; read-only. Raises ValueError, UsageError for a pickle that is refused."""
    front = front_of(data[:FRONT])
    check(front, len(data), what, allow_pickle=allow_pickle)
    if front.dtype is None:
        return _objects(data, front, what)
    array: Array = np.frombuffer(data, front.dtype, offset=front.begin)
    return array.reshape(front.shape, order="F" if front.fortran else "C")


def check(front: Front, length: int, what: str, *, allow_pickle: bool) -> None:
    """Raise ValueError for a header that asks for another ``length`` of the file, or for more than is read."""
    if front.dtype is None and not allow_pickle:
        raise ValueError(f"Object arrays are pickles, not read unasked: {what} is one, and no array of numbers")
    if front.end is not None and front.end != length:
        raise ValueError(f"{what} {list(front.shape)} of {front.dtype} needs {front.end:,} bytes, there are {length:,}")
    if length > LIMIT:
        raise ValueError(f"{what} is longer than {LIMIT:,} bytes")


def dump(array: Array) -> bytes:
    """The file of an array of numbers."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def dump_object(value: Any) -> bytes:
    """The file of a 0-d array that holds ``value``, as ``np.save`` makes it of a dict: a pickle, for peers who want it.

    What the pickle names is where Python 3 and numpy 1 have it.
    """
    box = np.empty((), object)
    box[()] = value
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": ()})
    return out.getvalue() + dumps(box)


def _objects(data: bytes, front: Front, what: str) -> Array:
    found = loads(memoryview(data)[front.begin :])
    if not isinstance(found, np.ndarray) or found.shape != front.shape:
        raise ValueError(f"{what} holds a pickle of a {type(found).__name__}, expected an array {list(front.shape)}")
    return found
