"""A foreign HDF5 file, also one that was cut: what lies behind its end is told, and the rest is read.

The library refuses a file that is shorter than its superblock says. So it reads through an object of ours, which gives
zeros behind the end and remembers that it did. Links to other files, and data in other files, are not followed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.schema import Array
from featx.store import disk

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # of the end of the file in the superblock, by its version
_LONGEST = 1 << 30  # bytes read at once
FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


class _Padded(io.RawIOBase):
    """A file that goes on with zeros up to the length that its superblock states."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY)
        self.length = os.fstat(self._handle).st_size
        self.stated = max(self.length, min(_stated_end(os.pread(self._handle, 64, 0)), 1 << 48))
        self.missing, self._at = False, 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = os.pread(self._handle, len(view), self._at)
        view[: len(found)] = found
        view[len(found) :] = bytes(len(view) - len(found))
        self.missing |= len(found) < len(view)
        self._at += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.stated}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()


class Hdf5Source:
    """Groups and arrays of one file. Methods raise one of ``FAULTS`` for what cannot be read."""

    def __init__(self, file: Any, bytes_: _Padded) -> None:
        self.root, self._bytes = file, bytes_

    @property
    def cut(self) -> bool:
        """Whether the file ends before its superblock says."""
        return self._bytes.length < self._bytes.stated

    def dataset(self, group: Any, name: str) -> Any:
        """The dataset ``name`` of a group. Raises ValueError for one that is elsewhere or is no plain numbers."""
        import h5py

        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"it has no {name} of its own")
        found = group[name]
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.dtype.kind not in "fiuSO":
            raise ValueError(f"{name} is no array of numbers in this file")
        return found

    def rows(self, dataset: Any, first: int = 0, last: int | None = None) -> Array:
        """Rows of a dataset, or all of it. Raises ValueError for what lies behind the end of the file."""
        shape: Sequence[int] = dataset.shape
        extent = shape if last is None else (last - first, *shape[1:])
        if dataset.dtype.kind == "O" or dataset.dtype.itemsize * float(np.prod(extent, dtype=float)) > _LONGEST:
            raise ValueError(f"{dataset.name} is {dataset.dtype}{list(shape)}, which is not read at once")
        self._bytes.missing = False
        found = np.asarray(dataset[()] if last is None else dataset[first:last])
        if self._bytes.missing:
            raise ValueError(f"{dataset.name} lies behind the end of the file, which has {self._bytes.length} bytes")
        return found


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5Source]:
    """A file for reading. Raises UsageError for what HDF5 cannot open."""
    import h5py

    try:
        raw = _Padded(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give an HDF5 file") from None
    with raw:
        try:
            file = h5py.File(raw, "r")
        except FAULTS as error:
            raise UsageError(f"{path} cannot be opened as HDF5: {error}", "it is damaged, or something else") from None
        with file:
            yield Hdf5Source(file, raw)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The temporary name of an HDF5 file, which takes its own name when all went well; else nothing is left."""
    temporary = disk.temporary(path)
    with disk.room(path.parent):
        try:
            try:
                yield temporary
            except RuntimeError as error:  # how h5py tells that the disk was full when it closed the file
                raise OSError(f"{path.name}: {error}") from error
            disk.settle(path)
        except BaseException:
            disk.remove(temporary)
            raise


def _stated_end(head: bytes) -> int:
    version = head[8] if head[:8] == SIGNATURE and len(head) == 64 else -1
    at = _END_AT.get(version)
    return int.from_bytes(head[at : at + 8], "little") if at else 0
