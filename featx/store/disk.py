"""The one seam to the disk: every byte that must survive a crash goes through the seven operations of a :class:`Disk`.

The functions below put them together and go through ``current``, which tests replace: by one that records, drops what
was not synced, fails, or fills up. What is assumed of the medium is in FORMAT.md. Locks go another way: nothing of
them has to survive. HDF5's library makes a file of arrays itself; that it survives, and its name, are decided here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featx.errors import FeatxError, StoreError
from featx.store.lock import Lock as Lock

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_PIECES = 1024  # that one call to the system takes (IOV_MAX)
_BATCH = 2 << 20  # bytes
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Disk:
    """The seven operations. Each raises OSError, and only ``sync`` promises that anything survives a power cut."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, in one that exists; it may be there already."""
        path.mkdir(exist_ok=True)

    def create(self, path: Path) -> None:
        """Make an empty file, or an existing one empty."""
        path.open("wb").close()

    def write(self, path: Path, pieces: Sequence[Any], at: int) -> None:
        """Write buffers one behind the other into an existing file, from byte ``at`` on.

        The disk is set to work every few megabytes, so that a sync at the end need not wait for all of them.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for batch, size in _batches(pieces):
                _write_all(handle, batch, at)
                _begin(handle, at, size)
                at += size
        finally:
            os.close(handle)

    def sync(self, path: Path) -> None:
        """Make the content of a file, or the names in a folder, durable."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Atomically give ``source`` the name ``target``, replacing what had it."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is already gone is as good."""
        path.unlink(missing_ok=True)

    def resize(self, path: Path, size: int) -> None:
        """Cut or extend a file to ``size`` bytes."""
        os.truncate(path, size)


def _batches(pieces: Sequence[Any]) -> Iterator[tuple[list[memoryview], int]]:
    """Buffers in batches of a few megabytes, with the size of each."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(memoryview(piece))
        size += batch[-1].nbytes
        if size >= _BATCH:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _begin(handle: int, at: int, size: int) -> None:
    """Let the system begin to write a range of a file, without waiting; a hint, which only Linux takes."""
    if _sync_file_range is not None and size >= _BATCH:
        _sync_file_range(handle, at, size, 2)


def _write_all(handle: int, waiting: list[memoryview], at: int) -> None:
    """Write every piece; the system may take fewer bytes at a time than it is given."""
    first = 0
    while first < len(waiting):
        written = os.pwritev(handle, waiting[first : first + _PIECES], at)
        at += written
        while first < len(waiting) and written >= waiting[first].nbytes:
            written -= waiting[first].nbytes
            first += 1
        if written:
            waiting[first] = waiting[first].cast("B")[written:]


current = Disk()


@contextmanager
def using(disk: Disk) -> Iterator[Disk]:
    """Let everything go through ``disk`` meanwhile."""
    global current
    before, current = current, disk
    try:
        yield disk
    finally:
        current = before


def make_folders(path: Path) -> None:
    """Make a folder and those above it; their names are durable on return."""
    if not path.is_dir():
        make_folders(path.parent)
        current.make_folder(path)
        current.sync(path.parent)


def create(path: Path) -> None:
    """Make an empty file; its name is durable on return."""
    current.create(path)
    current.sync(path.parent)


def write(path: Path, data: bytes) -> None:
    """Make the content of a file ``data``, and sync it; its name is not yet durable."""
    current.create(path)
    current.write(path, [data], 0)
    current.sync(path)


def put(path: Path, data: bytes, at: int) -> None:
    """Write ``data`` into an existing file, from byte ``at`` on; not durable before a sync."""
    current.write(path, [data], at)


def append(path: Path, data: bytes) -> None:
    """Add ``data`` to the end of a file, made if there is none; durable on return, or not there if it fails."""
    if not path.exists():
        create(path)
    extend(path, [data], path.stat().st_size)


def extend(path: Path, pieces: Sequence[Any], size: int) -> None:
    """Add buffers to the end of a file of ``size`` bytes; durable on return.

    When it fails the file is cut to ``size`` again: what the system could not sync must not be taken for written.
    """
    try:
        current.write(path, pieces, size)
        current.sync(path)
    except BaseException:
        current.resize(path, size)
        raise


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable."""
    current.sync(path)


def rename(source: Path, target: Path) -> None:
    """Atomically give ``source`` the name ``target``, replacing what had it; durable when the folder is synced."""
    current.rename(source, target)


def remove(path: Path) -> None:
    """Remove a file; one that is already gone is as good."""
    current.remove(path)


def resize(path: Path, size: int) -> None:
    """Cut or extend a file to ``size`` bytes."""
    current.resize(path, size)


def temporary(path: Path) -> Path:
    """The name under which ``path`` is written before it is published."""
    return path.with_name(f".{path.name}.tmp")


def publish(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data``: whole or not at all, whenever the process dies."""
    write(temporary(path), data)
    move(temporary(path), path)


def settle(path: Path) -> None:
    """Publish the file that was written under ``temporary(path)`` by other means."""
    sync(temporary(path))
    move(temporary(path), path)


def move(source: Path, target: Path) -> None:
    """Rename a file within its folder; durable on return."""
    rename(source, target)
    sync(target.parent)


@contextmanager
def room(folder: Path, needed: int = 0) -> Iterator[None]:
    """Turns an error of the disk, a full one above all, into a FeatxError that says how much is needed, and free.

    What may not be written, or has no folder to be written to, is a StoreError that names it.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DENIED:
            raise StoreError(
                f"{error.filename or folder} cannot be written: {error.strerror}",
                "check who owns the folder and its permissions, or write to another one",
            ) from error
        if error.errno in _ABSENT:
            raise StoreError(
                f"{error.filename or folder} cannot be written: {error.strerror}", "check the path, or make its folder"
            ) from error
        free = next(shutil.disk_usage(place).free for place in (folder, *folder.parents) if place.exists())
        what = f"{needed:,} bytes to {folder}" if needed else f"to {folder}"
        raise FeatxError(
            f"could not write {what}: {error}; {free:,} bytes are free",
            "make room, or make it writable, and run the same command again: what was committed is kept",
        ) from error


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns a file that may not be read into a StoreError that names it: it is not damaged, it was not seen."""
    try:
        yield
    except PermissionError as error:
        raise StoreError(
            f"{error.filename or folder} cannot be read: {error.strerror}",
            "ask its owner for permission to read the store: its folders, and every file in them",
        ) from error
