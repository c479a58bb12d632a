"""``flight``: which pictures a process has in hand, so that the next one knows what it died with.

The file lies in the folder of an open part. It says in its first line who writes, and then, in a line each, the
positions in the source list of the pictures that were handed out and are not yet committed. Lines are of one length
and used again, so the file is as small as what is under way. It has to survive the process, not the machine: it is
written and never synced, past the seam of ``disk``, and removed when a run ends in order.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FILE = "flight"
HEAD = 256  # bytes of the first line
LINE = 16  # bytes of every other
_FREE = b" " * (LINE - 1) + b"\n"


class Left(NamedTuple):
    """What a process left that did not end in order: who it was, when it began and last took a picture (seconds since
    1970), and the positions of the pictures it had in hand."""

    host: str
    pid: int
    begun: float
    at: float
    ordinals: frozenset[int]


def left_behind(folder: Path) -> Left | None:
    """What the last writer of a part left; None when it ended in order.

    A line that a power cut spoiled names no picture. Only who has the part's lock may take it for a death.
    """
    try:
        data, at = (folder / FILE).read_bytes(), (folder / FILE).stat().st_mtime
    except OSError:
        return None
    lines = data[HEAD:].split(b"\n")
    ordinals = frozenset(int(line) for line in lines if len(line) == LINE - 1 and line.strip().isdigit())
    try:
        head = json.loads(data[:HEAD])
        return Left(str(head["host"]), int(head["pid"]), float(head["begun"]), at, ordinals)
    except (ValueError, KeyError, TypeError):
        return Left("unknown", 0, 0.0, at, ordinals)


class Flight:
    """The note of this process. Every method may be called from any thread.

    A disk that does not take it stops nobody: it is there for the day a process dies.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.host, self.pid, self.begun = folder / FILE, socket.gethostname(), os.getpid(), time.time()
        self._lines: dict[int, int] = {}  # of the pictures in hand
        self._free: list[int] = []
        self._content = bytearray(self._head())
        self._handle: int | None = None
        self._lock = threading.Lock()

    @property
    def ordinals(self) -> frozenset[int]:
        """The pictures in hand."""
        with self._lock:
            return frozenset(self._lines)

    def take(self, ordinal: int) -> None:
        """A picture is about to be worked on."""
        with self._lock:
            line = self._free.pop() if self._free else len(self._lines)
            self._lines[ordinal] = line
            at = HEAD + line * LINE
            self._content[at : at + LINE] = b"%15d\n" % ordinal
            self._write(at, at + LINE)

    def land(self, ordinals: Iterable[int]) -> None:
        """Pictures are committed; those that were never taken are passed over."""
        with self._lock:
            lines = [self._lines.pop(ordinal) for ordinal in ordinals if ordinal in self._lines]
            for line in lines:
                self._content[HEAD + line * LINE : HEAD + (line + 1) * LINE] = _FREE
            if lines:
                self._free += lines
                self._write(HEAD + min(lines) * LINE, HEAD + (max(lines) + 1) * LINE)

    def remove(self) -> None:
        """The run ends in order, or what it had in hand was noted elsewhere."""
        with self._lock, suppress(OSError):
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            self.path.unlink(missing_ok=True)

    def _head(self) -> bytes:
        head = json.dumps({"host": self.host[:64], "pid": self.pid, "begun": self.begun})
        return head.encode()[: HEAD - 1].ljust(HEAD - 1) + b"\n"

    def _write(self, begin: int, end: int) -> None:
        with suppress(OSError):
            if self._handle is None:
                self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                begin, end = 0, len(self._content)
            os.pwrite(self._handle, memoryview(self._content)[begin:end], begin)
