"""Forks and gRPC, which cannot be used on both sides of one: its threads stay behind, and what it polls is shared.

So all connections are closed before a fork, which waits for calls under way, and each side opens its own when it needs
one.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_FORK_WAITS = 10.0  # seconds for calls under way
_ENDS_WITHIN = 5.0  # seconds for gRPC
_GRPC = {"event_engine", "lifeguard", "grpc_global_tim"}  # threads; names end after 15 characters


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
        _wait_for_grpc()

    def _start_anew(self) -> None:
        self._change, self._under_way = threading.Condition(), 0


_lasting: set[str] = set()  # threads of gRPC that were waited for in vain


def _wait_for_grpc() -> None:
    """Wait until gRPC has ended its threads, which it does some time after the last connection was closed.

    A server in this process keeps them for good; then this is in vain, and so is the fork, but nobody waits for the
    same ones twice.
    """
    end = time.monotonic() + _ENDS_WITHIN
    while (there := _grpc_threads()) - _lasting:
        if time.monotonic() > end:
            _lasting.update(there)
            return
        time.sleep(0.002)
    _lasting.intersection_update(there)


def _grpc_threads() -> set[str]:
    """Those threads of this process, by the numbers of the system; none where it does not tell."""
    found = set()
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            if task.read_text().strip() in _GRPC:
                found.add(task.parent.name)
    return found


guard = Guard()
