"""Forks and gRPC, which cannot be used on both sides of one: its threads stay behind, and what it polls is shared.

So all connections are closed before a fork, which waits for calls under way, and each side opens its own when it needs
one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

_FORK_WAITS = 10.0  # seconds for calls under way


class Closing(Protocol):
    """What has a connection."""

    def close(self) -> None:
        """Let go of it; the next call opens another."""


class Guard:
    """Lets no fork happen while a call is under way, and closes all connections before one."""

    def __init__(self) -> None:
        self._calls: weakref.WeakSet[Closing] = weakref.WeakSet()
        self._start_anew()
        os.register_at_fork(
            before=self._before, after_in_parent=lambda: self._change.release(), after_in_child=self._start_anew
        )

    def add(self, calls: Closing) -> None:
        """Watch over its connection."""
        self._calls.add(calls)

    def __enter__(self) -> None:
        with self._change:
            self._under_way += 1

    def __exit__(self, *error: object) -> None:
        with self._change:
            self._under_way -= 1
            self._change.notify_all()

    def _before(self) -> None:
        self._change.acquire()
        self._change.wait_for(lambda: self._under_way == 0, _FORK_WAITS)
        for calls in list(self._calls):
            calls.close()

    def _start_anew(self) -> None:
        self._change, self._under_way = threading.Condition(), 0


guard = Guard()
