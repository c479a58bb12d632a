"""Who writes: an exclusive lock on a file, gone when its process is gone, however it went."""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from featx.errors import StoreBusy
from featx.store.process import Process


class Lock:
    """An exclusive lock on a file, gone when its process is gone, however it went.

    The file says who holds it. It is never removed: removing a lock file lets two owners in. Nothing of it has to
    survive, so it does not go through the seam of ``disk``.
    """

    def __init__(self, path: Path, what: str, *, wait: bool = False) -> None:
        """Take the lock; ``what`` names the thing for the message. Raises StoreBusy when it is taken."""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            owner = _owner(os.pread(self._handle, 4096, 0))
            os.close(self._handle)
            raise StoreBusy(
                f"{what} is being written by {owner}", "wait for it, or stop that process and run this again"
            ) from None
        _held.add(self)
        with suppress(OSError):  # a full disk: who holds it is for people, holding it is what counts
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(asdict(Process.this())).encode(), 0)

    def release(self) -> None:
        """Give the lock up. Releasing twice is harmless."""
        if self._handle >= 0:
            with suppress(OSError):
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


def holder(path: Path) -> Process | None:
    """Who says to hold the lock, or to have held it when it died; None when nobody does. The lock is not touched."""
    try:
        return Process(**json.loads(path.read_bytes()[:4096]))
    except (OSError, ValueError, TypeError):
        return None


def _owner(content: bytes) -> str:
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
