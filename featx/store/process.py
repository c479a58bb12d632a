"""Which process something was written by, and whether that one is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_DEAD = "ZX"  # states of a process that is over and waits to be asked after


@dataclass(frozen=True)
class Process:
    """One process. place: where its number means this process: this start of the system and this set of processes
    ('' where nobody knows). since: when it began, in ticks since the system started, so that its number, given to
    another process, is not taken for it."""

    host: str = ""
    pid: int = 0
    place: str = ""
    since: int = 0

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _place(), _since(pid) or 0)

    def alive(self) -> bool | None:
        """Whether it is still there; None: it cannot be seen from here."""
        if not self.place or self.place != _place() or not self.since:
            return None
        return _since(self.pid) == self.since


@cache
def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _since(pid: int) -> int | None:
    """When a process began; None of one that is over."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold anything
    return None if fields[0] in _DEAD else int(fields[19])
