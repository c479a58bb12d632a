"""A sealed HDF5 file, for reading. HDF5 is asked for the place of each column once; then the file is mapped.

Columns are sorted by key. A record lies whole at the place that the column ``offset`` says (``hdf5_appendix``), or has
been taken apart into contiguous arrays, and is put together again (``hdf5_arrays``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from featx.codec import VERSION, Header, examine, layout, pack, text
from featx.errors import StoreDamaged
from featx.schema import Array, Schema
from featx.store.base import Shard, Words
from featx.store.hdf5_columns import ARRAY_COLUMNS, COLUMNS, OFFSET, slots_of, stays_in_place


def open_file(path: Path, schema: Schema) -> Hdf5Shard:
    """The records of a file of either kind. Raises StoreDamaged for what is neither."""
    try:
        whole = np.memmap(path, np.uint8, "r")  # first: HDF5 does not say which file may not be read
        with h5py.File(path, "r", locking=False) as file:
            kind = PlacedShard if stays_in_place(schema) and OFFSET in file else ArraysShard
            return kind(path, schema, whole, file)
    except PermissionError:
        raise
    except (OSError, LookupError, AttributeError, RuntimeError, ValueError, TypeError) as error:
        raise damaged(path, str(error)) from error


class Hdf5Shard(Shard):
    """What both kinds have: columns, keys in order, and row i of each for record i."""

    columns: Mapping[str, np.dtype[Any]]

    def __init__(self, path: Path, schema: Schema, whole: Array, file: Any) -> None:
        """The file mapped as ``whole``, opened as ``file``. Raises whatever h5py does, and ValueError."""
        self.path, self.schema, self._whole = path, schema, whole
        self._arrays = {name: _placed(whole, file, name, dtype) for name, dtype in self._wanted.items()}
        self._keys = self._arrays["keys"]
        shapes = self._shapes(len(self._keys))
        for name, array in self._arrays.items():
            if array.shape != shapes.get(name, (len(self._keys),)):
                raise ValueError(f"{name} has shape {array.shape}, expected {shapes.get(name, (len(self._keys),))}")

    @property
    def _wanted(self) -> Mapping[str, np.dtype[Any]]:
        return self.columns

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that do not have one number for each record."""
        return {"size": (count, 2)}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._find(key) is not None

    def get(self, key: bytes) -> bytes | None:
        place = self._find(key)
        return None if place is None else self._record(place, key)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._keys)

    def after(self, key: bytes) -> Iterator[bytes]:
        width = self._keys.itemsize  # a longer key is behind the one that it begins with, if that is there
        place = int(np.searchsorted(self._keys, np.array(key[:width], self._keys.dtype), "right"))
        return map(bytes, self._keys[place:])

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        return ((bytes(key), self._header(place)) for place, key in enumerate(self._keys))

    def checksums(self) -> Iterator[tuple[bytes, int]]:
        """The (key, checksum) of every record."""
        return zip(self, self._arrays["checksum"].tolist(), strict=True)

    def close(self) -> None:
        self._arrays, self._keys, self._whole = {}, np.empty(0, "S1"), np.empty(0, np.uint8)

    @cached_property
    def frame(self) -> str:  # type: ignore[override]
        state = xxhash.xxh3_128()
        for name in self.columns:
            state.update(np.ascontiguousarray(self._arrays[name]).reshape(-1).view(np.uint8).data)
        return state.hexdigest()

    @abstractmethod
    def _record(self, place: int, key: bytes) -> bytes: ...

    @abstractmethod
    def _rows(self, place: int) -> int: ...

    def _address(self, name: str) -> int:
        return int(self._arrays[name].ctypes.data)

    def _find(self, key: bytes) -> int | None:
        if len(key) > self._keys.itemsize:  # numpy would widen, that is copy, all keys to compare
            return None
        place = int(np.searchsorted(self._keys, np.array(key, self._keys.dtype)))
        return place if place < len(self._keys) and self._keys[place] == key else None

    def _header(self, place: int) -> Header:
        height, width = self._arrays["size"][place].tolist()
        count, ordinal, checksum = (int(self._arrays[name][place]) for name in ("count", "ordinal", "checksum"))
        return Header(self._rows(place), count, height, width, ordinal, checksum)


class PlacedShard(Hdf5Shard):
    """Records that lie whole where ``offset`` says."""

    columns = COLUMNS

    def words(self) -> Words:
        places = (self._whole.ctypes.data, len(self._whole), len(self), self._keys.itemsize)
        owner, view = (self._whole, self._arrays), self._whole.data
        return Words((3,), (*places, *map(self._address, ("keys", OFFSET))), len(self), owner, view)

    def _record(self, place: int, key: bytes) -> bytes:
        offset, length = int(self._arrays[OFFSET][place]), layout(self.schema, self._rows(place))[1]
        record = bytes(self._whole.data[offset : offset + length])
        examine(record, self.schema, key)
        return record

    def _rows(self, place: int) -> int:
        return self.schema.rows or 0


class ArraysShard(Hdf5Shard):
    """Records taken apart: the rows ``start[i]:start[i + 1]`` of each per-region array, and row i of each other."""

    columns = ARRAY_COLUMNS

    @property
    def _wanted(self) -> Mapping[str, np.dtype[Any]]:
        return {**self.columns, **{slot.name: slot.dtype for slot in slots_of(self.schema)}}

    def _shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        rows = int(self._start[-1])
        shapes = {s.name: (rows if s.field.per == "region" else count, *s.tail) for s in slots_of(self.schema)}
        return {**super()._shapes(count), "start": (count + 1,), **shapes}

    @property
    def _start(self) -> Array:
        return self._arrays["start"]

    def words(self) -> Words:
        facts = (VERSION, len(self), self._keys.itemsize, int(self._start[-1]))
        addresses = map(self._address, (*self.columns, *(slot.name for slot in slots_of(self.schema))))
        return Words((1,), (*facts, *addresses), len(self), self._arrays)

    def _record(self, place: int, key: bytes) -> bytes:
        first, last = int(self._start[place]), int(self._start[place + 1])
        if not 0 <= first <= last <= self._start[-1]:
            raise damaged(self.path, f"record {text(key)!r} has the rows {first} to {last}")
        rows = slice(first, last)
        arrays = [self._arrays[s.name][rows if s.field.per == "region" else place] for s in slots_of(self.schema)]
        return pack(self._header(place), arrays)

    def _rows(self, place: int) -> int:
        return int(self._start[place + 1]) - int(self._start[place])


def damaged(path: Path, what: str) -> StoreDamaged:
    """The error for a file that is not as it was written."""
    return StoreDamaged(f"{path} is damaged: {what}", "run `featx verify` on the store")


def _placed(whole: Array, file: Any, name: str, dtype: np.dtype[Any]) -> Array:
    """The array of a contiguous dataset as a view of the mapped file."""
    dataset = h5py.h5d.open(file.id, name.encode())  # several times as fast as ``file[name]``
    shape, found = dataset.shape, dataset.dtype
    if found.kind != dtype.kind or (dtype.itemsize and found != dtype):
        raise ValueError(f"{name} has dtype {found}, expected {dtype}")
    size = prod(shape) * found.itemsize
    if not size:  # HDF5 gives no place to an empty array
        return np.empty(shape, found)
    offset = dataset.get_offset()
    if offset is None or offset + size > len(whole):
        raise ValueError(f"{name} is not contiguous, or ends behind the end of the file")
    return np.ndarray(shape, found.str, whole, offset)
