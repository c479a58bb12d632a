"""Batches made ahead: threads read the store and prepare tensors while the model works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Place = TypeVar("Place")
Item = TypeVar("Item")


class Feed(Generic[Place, Item]):
    """Iterates over ``make(place)`` for every place, in order, made ahead by threads.

    What an item is depends on its place alone, so neither the number of threads nor their timing can be seen in it. An
    error in ``make`` is raised where the item is asked for. With 0 workers items are made when they are asked for.
    ahead: items that may wait ready. Close it (it is a context manager) to stop the threads.
    """

    def __init__(
        self, make: Callable[[Place], Item], places: Iterable[Place], *, workers: int, ahead: int | None = None
    ) -> None:
        self._make, self._places = make, iter(places)
        self._ahead = 2 * workers if ahead is None else ahead
        self._waiting: deque[Future[Item]] = deque()
        self._threads = torch.get_num_threads()
        # Several threads that each ran their operators on all cores would only slow down the model's.
        self._pool = (
            ThreadPoolExecutor(workers, "featx-feed", initializer=torch.set_num_threads, initargs=(1,))
            if workers
            else None
        )
        self._fill()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._pool is None:
            return self._make(next(self._places))
        if not self._waiting:
            raise StopIteration
        item = self._waiting.popleft()
        self._fill()
        return item.result()

    def _fill(self) -> None:
        while self._pool is not None and len(self._waiting) < max(1, self._ahead):
            try:
                place = next(self._places)
            except StopIteration:
                return
            self._waiting.append(self._pool.submit(self._make, place))

    def close(self) -> None:
        """Stop: what is being made is finished and dropped, the rest never begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._threads)  # also the default of threads to come
        self._waiting.clear()

    def __enter__(self) -> Feed[Place, Item]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
