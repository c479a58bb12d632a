"""How long the loop waited for data: the one figure that says whether the cache keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watch:
    """Seconds the main thread spent waiting for the next batch (``data``) and working on it (``work``).

    Waiting is all that counts: what threads do while the model works costs the run nothing. clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.data = self.work = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the body as waiting for data."""
        begin = self._clock()
        yield
        self.data += self._clock() - begin

    @contextmanager
    def working(self) -> Iterator[None]:
        """Measure the body as work."""
        begin = self._clock()
        yield
        self.work += self._clock() - begin

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.data + self.work

    @property
    def share(self) -> float:
        """Of the seconds, the part spent waiting: 0 to 1."""
        return self.data / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, float]:
        """JSON form: the seconds, and the share."""
        return {"seconds": round(self.seconds, 3), "data": round(self.share, 5)}

    def anew(self) -> Watch:
        """Another one at zero, by the same clock."""
        return Watch(self._clock)

    def __add__(self, other: Watch) -> Watch:
        total = Watch(self._clock)
        total.data, total.work = self.data + other.data, self.work + other.work
        return total
