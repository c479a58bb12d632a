"""A foreign HDF5 file, also one that was cut or is damaged: what is lost is told, and the rest is read.

The library refuses a file that is shorter than its superblock says. So it reads through an object of ours, which gives
zeros behind the end and remembers that it did. What it cannot read is looked up without it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.hdf5.arrays import SavedArray
from featx.formats.hdf5.groups import Saved
from featx.formats.hdf5.library import FAULTS, Library, Refused
from featx.formats.hdf5.links import Link
from featx.formats.hdf5.raw import Unhandled, lookup3
from featx.formats.publish import published
from featx.schema import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # of the end of the file in the superblock, by its version
_HEAD, _MARK = 48, 11  # bytes of a superblock of version 3, and where it says that a writer has the file open
_LONGEST = 1 << 30  # bytes read at once
LOST = "its index is lost, without which no array can be located: make a new copy, or run again what was killed"


class _Padded(io.RawIOBase):
    """A file that goes on with zeros up to the length that its superblock states."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)
        self.length = os.fstat(self.handle).st_size
        self.stated = max(self.length, min(_stated_end(os.pread(self.handle, 64, 0)), 1 << 48))
        self.missing, self._at = False, 0
        self._head = b""

    def cleared(self) -> bool:
        """Give a superblock without the mark of a writer from now on, as h5clear writes one; False when it has none."""
        head = os.pread(self.handle, _HEAD, 0)
        if len(head) < _HEAD or head[8] != 3 or not head[_MARK]:
            return False
        plain = head[:_MARK] + b"\0" + head[_MARK + 1 : -4]
        self._head = plain + lookup3(plain).to_bytes(4, "little")
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = os.pread(self.handle, len(view), self._at)
        view[: len(found)] = found
        view[len(found) :] = bytes(len(view) - len(found))
        for at in range(self._at, min(self._at + len(found), len(self._head))):
            view[at - self._at] = self._head[at]
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
            os.close(self.handle)
        super().close()


class Hdf5Source:
    """Groups and arrays of one file: through the library, and what that cannot read without it.

    Of a file that was cut all is read without the library, which takes the zeros behind the end for true. Methods raise
    one of ``FAULTS`` for what cannot be read. library: None when it does not open the file.
    """

    def __init__(self, library: Library | None, bytes_: _Padded) -> None:
        self._library, self._bytes = library, bytes_
        self._cut = bytes_.length < bytes_.stated

    @cached_property
    def saved(self) -> Saved:
        """The file without the library. Raises Damage when nothing in it can be located."""
        return Saved(self._bytes.handle)

    def members(self, path: str = "/") -> list[Link]:
        """What a group holds, by its names, and behind that what is lost of it."""
        found: list[Link] = self._either(lambda way: way.members(path))
        return found

    def inner(self, path: str, name: str, mark: str) -> int | None:
        """The address of a group in a group; None when it is no group, is elsewhere, or has a ``mark`` in it."""
        found: int | None = self._either(lambda way: way.inner(path, name, mark))
        return found

    def array(self, path: str, name: str) -> Any:
        """The array ``name`` of a group: h5py's or ours. Raises ValueError for one that is elsewhere or no numbers."""
        return self._either(lambda way: way.array(path, name))

    def rows(self, array: Any, first: int = 0, last: int | None = None) -> Array:
        """Rows of an array, or all of it. Raises ValueError for what does not lie within the file whole."""
        shape: Sequence[int] = array.shape
        extent = shape if last is None else (last - first, *shape[1:])
        if array.dtype.kind == "O" or array.dtype.itemsize * float(np.prod(extent, dtype=float)) > _LONGEST:
            raise Refused(f"{array.name} is {array.dtype}{list(shape)}, which is not read at once")
        if isinstance(array, SavedArray):
            return array.rows(first, last)
        path, _, name = array.name.rpartition("/")
        found: Array = self._either(lambda way: self._rows(way, path, name, array, first, last))
        return found

    def _rows(self, way: Any, path: str, name: str, array: Any, first: int, last: int | None) -> Array:
        if way is not self._library:
            array = way.array(path, name)
        self._bytes.missing = False
        found: Array = way.rows(array, first, last)
        if self._bytes.missing:
            raise ValueError(f"{array.name} lies behind the end of the file, which has {self._bytes.length} bytes")
        return found

    def _either(self, ask: Callable[[Any], Any]) -> Any:
        """The answer of the library, or of ``saved``, whose complaints name bytes."""
        if self._library is None:
            return ask(self.saved)
        if self._cut:
            try:
                return ask(self.saved)
            except Unhandled:
                return ask(self._library)
        try:
            return ask(self._library)
        except Refused:
            raise
        except FAULTS as error:
            try:
                return ask(self.saved)
            except Unhandled:
                raise error from None


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5Source]:
    """A file for reading. Raises UsageError when nothing in it can be located."""
    try:
        raw = _Padded(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give an HDF5 file") from None
    with raw:
        try:
            file = _open(raw)
        except FAULTS as error:
            source = Hdf5Source(None, raw)
            try:
                source.saved  # noqa: B018
            except ValueError as damage:
                raise UsageError(
                    f"{path} cannot be opened as HDF5: {error}; without the library: {damage}", LOST
                ) from None
            yield source
            return
        with file:
            yield Hdf5Source(Library(file), raw)


def _open(raw: _Padded) -> Any:
    """The file by the library, also one that a writer left open."""
    import h5py

    try:
        return h5py.File(raw, "r")
    except FAULTS:
        if not raw.cleared():
            raise
    return h5py.File(raw, "r")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The temporary name of an HDF5 file, which takes its own name when all went well; else nothing is left."""
    with published(path) as draft:
        try:
            yield draft
        except RuntimeError as error:  # how h5py tells that the disk was full when it closed the file
            raise OSError(f"{path.name}: {error}") from error


def _stated_end(head: bytes) -> int:
    version = head[8] if head[:8] == SIGNATURE and len(head) == 64 else -1
    at = _END_AT.get(version)
    return int.from_bytes(head[at : at + 8], "little") if at else 0
