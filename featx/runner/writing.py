"""Batches on their way to the store: a thread writes and commits them while the network works on the next.

It is this thread, too, that waits for a device to be done with a batch, so that the next one can be begun meanwhile.

They are written in the order in which they were handed over. All that wait when the thread is free become one commit,
so a network that is faster than the disk's sync is slowed down less than by a commit for each of its batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from featx.images import Source
from featx.runner.network import Outcomes


class Batch(NamedTuple):
    """Pictures, and what waits for the record of each of them, or why there is none."""

    sources: Sequence[Source]
    outcomes: Outcomes


WAITING = 16  # pictures, or one batch: as many more may be in the commit under way


class Writing:
    """Hands batches to ``write``, which makes them durable, in a thread of its own. A context manager.

    Leaving it waits for all that was handed over; after an interrupt only for the commit under way, which cannot be
    stopped, and what waits is dropped.
    """

    def __init__(self, write: Callable[[Sequence[Batch]], None]) -> None:
        self._write = write
        self._waiting: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._busy = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="featx-write", daemon=True)

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            if error is not None and not isinstance(error, Exception):
                self._waiting.clear()
            self._closed = True
            self._changed.notify_all()
        self._join()
        if error is None:
            self._check()

    def hand(self, batch: Batch) -> None:
        """Hand a batch over, as soon as few enough are waiting. Raises what an earlier one failed of."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or sum(len(one.sources) for one in self._waiting) < WAITING)
            self._check()
            self._waiting.append(batch)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until everything handed over is durable. Raises what it failed of."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._busy))
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while batches := self._taken():
            try:
                self._write(batches)
            except BaseException as error:
                with self._changed:
                    self._error = error
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _taken(self) -> list[Batch]:
        """All that wait, as soon as something does; nothing when nothing will come any more, or may be written."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self._error)
            taken = [] if self._error else list(self._waiting)
            self._waiting.clear()
            self._busy = bool(taken)
            self._changed.notify_all()
            return taken

    def _join(self) -> None:
        """Wait for the thread, whatever interrupts: nothing may be written once the part is given up."""
        interrupt: KeyboardInterrupt | None = None
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt as error:
                interrupt = error
                with self._changed:
                    self._waiting.clear()
        if interrupt is not None:
            raise interrupt
