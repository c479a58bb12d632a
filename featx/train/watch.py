"""How long the loop waited for data: the one figure that says whether the cache keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watch:
    """Seconds the main thread spent waiting for the next batch (``data``) and working on it (``work``).

    Waiting is all that counts: what threads do while the model works costs the run nothing. clock: seconds, for tests.
    data, work: what it begins with.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, data: float = 0.0, work: float = 0.0) -> None:
        self._clock, self.data, self.work = clock, data, work

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

    def anew(self, data: float = 0.0, work: float = 0.0) -> Watch:
        """Another one by the same clock."""
        return Watch(self._clock, data, work)

    def __add__(self, other: Watch) -> Watch:
        return self.anew(self.data + other.data, self.work + other.work)
