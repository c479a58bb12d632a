"""What many ask at about the same time, put into one call by one thread, with room for so many and no more."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
Work = Callable[[Sequence[A]], Sequence[B | Exception]]

LONGEST_WAIT = 60  # seconds that somebody who finds no room is told to wait, at most


class Busy(Exception):
    """There is no room. retry_after: whole seconds after which there should be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no room; try again in {retry_after} s")
        self.retry_after = retry_after


class _Place(Generic[A, B]):
    """One that waits."""

    def __init__(self, asked: A) -> None:
        self.asked, self.since = asked, time.monotonic()
        self.group: Hashable = self
        self.future: Future[B] = Future()


class Batcher(Generic[A, B]):
    """One thread that calls ``work`` with what came within ``wait`` seconds of the oldest, at most ``size`` at once.

    work: what was asked -> a result, or an Exception, for each. One that raises instead is called again with each
    alone, so that what is wrong with one fails no other. group: only what has the same group shares a call; the oldest
    one's group is next. alone: what shares its call with nobody. room: how many may wait. Whoever gives up (its future
    is cancelled) leaves its place at once, and is not computed unless that has begun.

    The thread begins with the first question and needs no event loop. While it works others gather, so the busier it
    is, the larger are its batches.
    """

    def __init__(
        self,
        work: Work[A, B],
        name: str,
        *,
        size: int = 32,
        wait: float = 0.004,
        room: int = 256,
        group: Callable[[A], Hashable] = lambda asked: None,
        alone: Callable[[A], bool] = lambda asked: False,
    ) -> None:
        self._work, self._name, self._size, self._wait, self._room = work, name, size, wait, room
        self._group, self._alone = group, alone
        self._places: deque[_Place[A, B]] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._seconds = 0.0  # of a call, on the average of late
        self.calls = self.done = 0

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._places)

    def submit(self, asked: A) -> Future[B]:
        """The result to come. Raises Busy when there is no room, and when the batcher is closed."""
        place: _Place[A, B] = _Place(asked)
        place.group = place if self._alone(asked) else self._group(asked)
        with self._changed:
            if self._closed or len(self._places) >= self._room:
                raise Busy(self.retry_after)
            self._places.append(place)
            self._begin()
            self._changed.notify_all()
        place.future.add_done_callback(lambda future: self._leave(place) if future.cancelled() else None)
        return place.future

    async def ask(self, asked: A) -> B:
        """The result. Raises Busy, and what ``work`` raised or returned for this one."""
        return await asyncio.wrap_future(self.submit(asked))

    @property
    def retry_after(self) -> int:
        """Whole seconds in which what waits now should be done."""
        rounds = len(self._places) / self._size + 1
        return min(LONGEST_WAIT, max(1, math.ceil(rounds * self._seconds)))

    def close(self, timeout: float | None = None, *, finish: bool = False) -> None:
        """Take nothing more; whoever still waits gets Busy. What is being computed is waited for.

        finish: what waits is computed, too.
        """
        with self._changed:
            self._closed = True
            left: list[_Place[A, B]] = []
            if not finish:
                left, self._places = list(self._places), deque()
            self._changed.notify_all()
        for place in left:
            if place.future.set_running_or_notify_cancel():
                place.future.set_exception(Busy(1))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _leave(self, place: _Place[A, B]) -> None:
        with self._changed:
            if place in self._places:
                self._places.remove(place)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._places:
                    if self._closed:
                        return
                    self._changed.wait()
                batch = self._collect()
            batch = [place for place in batch if place.future.set_running_or_notify_cancel()]
            if batch:
                begin = time.monotonic()
                self._compute(batch)
                self._seconds += 0.2 * (time.monotonic() - begin - self._seconds)

    def _collect(self) -> list[_Place[A, B]]:
        """The oldest and those that go with it, once they are enough or it has waited long enough."""
        while self._places:
            first = self._places[0]
            together = [place for place in self._places if place.group == first.group][: self._size]
            left = first.since + self._wait - time.monotonic()
            if len(together) == self._size or left <= 0 or first.group is first or self._closed:
                self._places = deque(place for place in self._places if place not in together)
                return together
            self._changed.wait(left)
        return []

    def _compute(self, batch: Sequence[_Place[A, B]]) -> None:
        self.calls += 1
        found: Sequence[B | BaseException]
        try:
            found = self._work([place.asked for place in batch])
        except BaseException as error:  # whoever asked must hear of it, and the thread goes on
            if len(batch) > 1:
                for place in batch:
                    self._compute([place])
                return
            found = [error]
        self.done += len(batch)
        for place, one in zip(batch, found, strict=True):
            if isinstance(one, BaseException):
                place.future.set_exception(one)
            else:
                place.future.set_result(one)
