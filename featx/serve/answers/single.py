"""Single flight: what many want at the same time is made once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")


class _Flight(Generic[V]):
    def __init__(self, future: Future[V]) -> None:
        self.future, self.aboard = future, 0


class Flights(Generic[V]):
    """What is under way, by key.

    The work goes on as long as one of those who want it waits; when the last one has gone before it began, it is
    cancelled. A failure is told to all who waited for it and then forgotten: the next one tries again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a future that is done at once calls back within
        self._under_way: dict[Hashable, _Flight[V]] = {}
        self.joined = 0

    def __len__(self) -> int:
        return len(self._under_way)

    async def once(self, key: Hashable, launch: Callable[[], Future[V]]) -> V:
        """The result of ``launch``, or of whoever launched for the same key before and is not done.

        Raises what ``launch`` raises, and what its future does.
        """
        flight = self._board(key, launch)
        try:
            # Shielded: one that goes away must not take it from the others.
            return await asyncio.shield(asyncio.wrap_future(flight.future))
        finally:
            self._leave(key, flight)

    def _board(self, key: Hashable, launch: Callable[[], Future[V]]) -> _Flight[V]:
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None:
                flight = self._under_way[key] = _Flight(launch())
                flight.future.add_done_callback(lambda _, flight=flight: self._end(key, flight))  # type: ignore[misc]
            else:
                self.joined += 1
            flight.aboard += 1
            return flight

    def _leave(self, key: Hashable, flight: _Flight[V]) -> None:
        with self._lock:
            flight.aboard -= 1
            if flight.aboard == 0 and flight.future.cancel():
                self._end(key, flight)

    def _end(self, key: Hashable, flight: _Flight[V]) -> None:
        with self._lock:
            if self._under_way.get(key) is flight:
                del self._under_way[key]
