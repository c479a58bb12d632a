"""The one seam to the disk: every step that must survive a crash goes through these functions.

What is assumed of the medium: a local POSIX file system, fsync reaches the platter, rename within a
folder is atomic, and a folder's entries are durable once the folder itself was synced. Nothing is
assumed about the order in which two files reach the disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from featx.errors import FeatxError, StoreError

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def write(path: Path, data: bytes, mode: Literal["wb", "ab"] = "wb") -> None:
    """Write ``data`` and sync the file; ``mode="ab"`` appends."""
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Make the content of a file, or the entries of a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Atomically give ``source`` the name ``target``, replacing what had it."""
    source.replace(target)


def remove(path: Path) -> None:
    """Remove a file; one that is already gone is as good."""
    path.unlink(missing_ok=True)


def resize(path: Path, size: int) -> None:
    """Cut or extend a file to ``size`` bytes."""
    os.truncate(path, size)


def temporary(path: Path) -> Path:
    """The name under which ``path`` is written before it is published."""
    return path.with_name(f".{path.name}.tmp")


def publish(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data``: whole or not at all, whenever the process dies."""
    write(temporary(path), data)
    rename(temporary(path), path)
    sync(path.parent)


def settle(path: Path) -> None:
    """Publish the file that was written under ``temporary(path)`` by other means."""
    sync(temporary(path))
    rename(temporary(path), path)
    sync(path.parent)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Turns an error of the disk, a full one above all, into a FeatxError that says how much is free.

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
        raise FeatxError(
            f"could not write to {folder}: {error}; {free:,} bytes are free",
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


class Lock:
    """An exclusive lock on a file, gone when its process is gone, however it went.

    The file says who holds it. It is never removed: removing a lock file lets two owners in.
    """

    def __init__(self, path: Path, what: str, *, wait: bool = False) -> None:
        """Take the lock; ``what`` names the thing for the message. Raises StoreError when it is taken."""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            owner = _owner(os.pread(self._handle, 4096, 0))
            os.close(self._handle)
            raise StoreError(
                f"{what} is being written by {owner}", "wait for it, or stop that process and run this again"
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Give the lock up. Releasing twice is harmless."""
        if self._handle >= 0:
            os.ftruncate(self._handle, 0)
            self._close()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked child shares the parent's lock; without its copy the lock dies with the parent."""
    for lock in list(_held):
        lock._close()
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def _owner(content: bytes) -> str:
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
