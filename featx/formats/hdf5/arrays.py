"""The arrays of a damaged HDF5 file, read without the HDF5 library: what lies within the file whole is given.

Arrays of numbers or of texts of one length, as h5py writes them: contiguous, within their header, or in chunks without
a filter under a B-tree of version 1 (Specification III.A.1, IV.A.2.b, d, i). All others are ``Unhandled``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from featx.formats.hdf5.links import children
from featx.formats.hdf5.objects import DATASPACE, DATATYPE, FILTERS, LAYOUT, STORED_ELSEWHERE, Header
from featx.formats.hdf5.raw import UNDEFINED, Bytes, Damage, Fields, Unhandled
from featx.schema import Array

_COMPACT, _CONTIGUOUS, _CHUNKED = range(3)
_MOST_AXES = 32
_LONGEST_AXIS = 1 << 48
_DEEPEST = 24  # levels of an index
_SPARSEST = 256  # an array in chunks has at most so many times the bytes of its file
# Of IEEE 754: bits of the fraction, bits of the exponent, what is added to the exponent; by the bytes of a number.
_IEEE = {2: (10, 5, 15), 4: (23, 8, 127), 8: (52, 11, 1023)}


class SavedArray:
    """An array by its header. name: its path from the root. Raises Damage, Unhandled."""

    def __init__(self, file: Bytes, header: Header, name: str) -> None:
        if any(kind == STORED_ELSEWHERE for kind, _, _ in header.messages):
            raise Unhandled(f"{name} is in another file")
        self.name, self._file = name, file
        self.shape = _shape(header.need(DATASPACE, "shape"))
        self.dtype = _dtype(header.need(DATATYPE, "type"), name)
        self.size = prod(self.shape) * self.dtype.itemsize  # bytes
        if not self.size and len(self.shape) and len(self) > file.length:
            raise Damage(header.offset, f"{name} has the shape {list(self.shape)}")
        self._within: bytes | None = None
        self._chunks: _Chunks | None = None
        self._address = UNDEFINED
        self._lay(header, header.need(LAYOUT, "layout"))

    def _lay(self, header: Header, layout: Fields) -> None:
        """Take in where the elements are."""
        version, kind = layout.number(1), layout.number(1)
        if version < 3 or kind > _CHUNKED or (kind == _CHUNKED and version > 3):
            raise Unhandled(f"{self.name} is laid out in a way that only the HDF5 library reads")
        if kind == _CHUNKED:
            if header.lost or header.one(FILTERS):
                raise Unhandled(header.lost or f"{self.name} is compressed, which only the HDF5 library reads")
            self._chunks = _Chunks(self._file, self, layout)
            return
        if kind == _COMPACT:
            self._within = layout.take(layout.number(2))
            stated = len(self._within)
        else:
            self._address, stated = layout.address(), layout.address()
        if stated != self.size:
            raise Damage(
                header.offset, f"{self.name} has {stated} bytes, its shape {list(self.shape)} makes {self.size}"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, first: int = 0, last: int | None = None) -> Array:
        """Rows ``first`` to ``last``, or all of it. Raises Damage, which says where in the file they would lie."""
        shape = self.shape if last is None else (last - first, *self.shape[1:])
        if self.shape and not 0 <= first <= first + shape[0] <= len(self):
            raise ValueError(f"{self.name} has no rows {first} to {last}: its shape is {list(self.shape)}")
        if not prod(shape):
            return np.zeros(shape, self.dtype)
        if self._chunks:
            return self._chunks.rows(first, shape)
        start = first * prod(self.shape[1:]) * self.dtype.itemsize
        size = prod(shape) * self.dtype.itemsize
        if self._within is not None:
            data = self._within[start : start + size]
        elif self._address == UNDEFINED:
            raise Damage(0, f"{self.name} was never written")
        else:
            data = self._file.read(self._address + start, size, self.name)
        return np.ndarray(shape, self.dtype, data).copy()


class _Chunks:
    """The chunks of an array."""

    def __init__(self, file: Bytes, array: SavedArray, layout: Fields) -> None:
        self._file, self._array = file, array
        axes, self._root = layout.number(1), layout.address()
        *self._shape, element = (layout.number(4) for _ in range(axes))
        if len(self._shape) != len(array.shape) or element != array.dtype.itemsize or 0 in self._shape:
            raise Damage(layout.offset, f"{array.name} has the shape {list(array.shape)} in chunks of {self._shape}")
        if array.size > _SPARSEST * file.length:
            raise Damage(layout.offset, f"{array.name} states {array.size} bytes, the file has {file.length}: "
                         "the number is damaged, or nearly nothing was written")  # fmt: skip

    def rows(self, first: int, shape: tuple[int, ...]) -> Array:
        """Rows from ``first`` on."""
        found = np.zeros(shape, self._array.dtype)
        starts = (first, *(0 for _ in shape[1:]))
        ends = [start + extent for start, extent in zip(starts, shape, strict=True)]
        steps = (range(start // c * c, end, c) for start, end, c in zip(starts, ends, self._shape, strict=True))
        for corner in product(*steps):
            chunk = self._chunk(corner)
            low = [max(start, at) for start, at in zip(starts, corner, strict=True)]
            high = [min(end, at + c) for end, at, c in zip(ends, corner, self._shape, strict=True)]
            here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, starts, strict=True))
            there = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, corner, strict=True))
            found[here] = chunk[there]
        return found

    def _chunk(self, corner: tuple[int, ...]) -> Array:
        places, faults = self._index
        what = f"the chunk of {self._array.name} from {list(corner)} on"
        if corner not in places:
            raise Damage(0, f"{what} is not found: {faults[0]}" if faults else f"{what} was never written")
        address, size = places[corner]
        if size != prod(self._shape) * self._array.dtype.itemsize:
            raise Damage(address, f"{what} has {size} bytes")
        return np.ndarray(self._shape, self._array.dtype, self._file.read(address, size, what))

    @cached_property
    def _index(self) -> tuple[dict[tuple[int, ...], tuple[int, int]], list[Damage]]:
        """Address and length of every chunk by its first corner, and what of the index cannot be read."""
        faults: list[Damage] = []
        return {} if self._root == UNDEFINED else dict(self._entries(faults)), faults

    def _entries(self, faults: list[Damage]) -> Iterator[tuple[tuple[int, ...], tuple[int, int]]]:
        waiting, seen, axes = [(self._root, _DEEPEST)], {self._root}, len(self._shape)
        while waiting:
            place, highest = waiting.pop()
            try:
                level, below = children(self._file, place, highest, 1, 8 + 8 * (axes + 1))
            except Damage as damage:
                faults.append(damage)
                continue
            for key, address in below:
                if not level:
                    corner = tuple(int.from_bytes(key[at : at + 8], "little") for at in range(8, 8 + 8 * axes, 8))
                    yield corner, (address, int.from_bytes(key[:4], "little"))
                elif address not in seen:
                    seen.add(address)
                    waiting.append((address, level - 1))


def _shape(message: Fields) -> tuple[int, ...]:
    """The current size of a dataspace message (IV.A.2.b)."""
    version, axes, _ = message.number(1), message.number(1), message.number(1)
    none = message.number(1) == 2
    if version not in (1, 2) or (version == 2 and none) or axes > _MOST_AXES:
        raise Unhandled(f"the header at byte {message.offset} has a shape of version {version} and {axes} axes")
    message.take(4 if version == 1 else 0)
    shape = tuple(message.address() for _ in range(axes))
    if max(shape, default=0) > _LONGEST_AXIS:
        raise Damage(message.offset, f"the header at byte {message.offset} states the shape {list(shape)}")
    return shape


def _dtype(message: Fields, name: str) -> np.dtype:
    """The type of a datatype message (IV.A.2.d): whole numbers, numbers of IEEE 754, texts of one length."""
    kind, bits, size = message.number(1) & 15, message.number(3), message.number(4)
    order = ">" if bits & 1 else "<"
    if kind == 3 and 0 < size < 1 << 20:
        return np.dtype(f"S{size}")
    if kind in (0, 1) and size in (1, 2, 4, 8) and (message.number(2), message.number(2)) == (0, 8 * size):
        if kind == 0:
            return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
        exponent_at, exponent, fraction_at, fraction = message.take(4)
        if (exponent_at, fraction_at) == (fraction, 0) and (fraction, exponent, message.number(4)) == _IEEE.get(size):
            return np.dtype(f"{order}f{size}")
    raise Unhandled(f"{name} is no array of numbers that featx reads without the HDF5 library")
