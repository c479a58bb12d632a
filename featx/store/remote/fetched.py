"""Records that were fetched from somewhere: they lie in memory, where the compiled reader can take them.

A batch is fetched in portions, each while the one before is converted: the line is never idle.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

from featx.codec import store_key
from featx.errors import FeatxError
from featx.schema import Array
from featx.store.words import AT, GOOD, SHARD, SIZE, STATUS, absent_places

THREADS = 8  # that fetch, for all who read a store at once
AHEAD = 2  # portions under way while one is converted


class Fetched(NamedTuple):
    """Records in memory, in the order in which they were asked for.

    addresses, sizes: int64 ``[B]``, where each lies and its bytes; 0 where there is none. errors: why, by place, where
    it is not that the key is absent. owner: keeps the memory as it is.
    """

    addresses: Array
    sizes: Array
    errors: Mapping[int, FeatxError]
    owner: object

    def stored(self, place: int) -> bytes:
        """A copy of one record."""
        return ctypes.string_at(int(self.addresses[place]), int(self.sizes[place]))

    def view(self, place: int) -> memoryview:
        """One record where it lies, as long as the owner is held."""
        there: Any = (ctypes.c_char * int(self.sizes[place])).from_address(int(self.addresses[place]))
        return memoryview(there).cast("B")

    def at(self, places: Sequence[int]) -> Fetched:
        """Those at some places, with repeats."""
        errors = {new: self.errors[old] for new, old in enumerate(places) if old in self.errors}
        return Fetched(self.addresses[places], self.sizes[places], errors, self.owner)


class Source(NamedTuple):
    """fetch: the records of names, of which none comes twice; when told ``again`` from where they come from, past
    everything that keeps copies. portion: how many to ask for at a time. where: what messages call it.
    """

    fetch: Callable[[Sequence[str], bool], Fetched]
    portion: Callable[[], int]
    where: str


class Portion(NamedTuple):
    """Some neighbours of a batch: the place of the first, their names, what was fetched, and how it went so far."""

    first: int
    names: tuple[str, ...]
    fetched: Fetched
    places: Array


class Fetcher:
    """Asks a source ahead of whoever uses what comes. Threads may share it, and a forked child has threads of its own.

    It holds no more than :data:`AHEAD` portions and the one in use.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def __call__(self, names: Sequence[str]) -> Iterator[Portion]:
        """The records of ``names``, portion by portion."""
        size = max(1, self.source.portion())
        cuts = [(first, tuple(names[first : first + size])) for first in range(0, len(names), size)]
        if len(cuts) < 2:
            return map(self._portion, cuts)
        return self._ahead(iter(cuts))

    def again(self, portion: Portion) -> Portion:
        """The same once more, from where it comes from."""
        return self._portion((portion.first, portion.names), again=True)

    def close(self) -> None:
        """End the threads when they are done with what they are at."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=False)  # who still reads in another thread gets what was asked for

    def _ahead(self, cuts: Iterator[tuple[int, tuple[str, ...]]]) -> Iterator[Portion]:
        waiting: deque[Future[Portion]] = deque()
        try:
            waiting += [self._submit(cut) for cut in islice(cuts, AHEAD)]
            while waiting:
                portion = waiting.popleft().result()
                waiting += [self._submit(cut) for cut in islice(cuts, 1)]
                yield portion
        finally:
            for future in waiting:
                future.cancel()

    def _portion(self, cut: tuple[int, tuple[str, ...]], again: bool = False) -> Portion:
        first, names = cut
        once = {name: place for place, name in enumerate(dict.fromkeys(names))}
        fetched = self.source.fetch(list(once), again)
        if len(once) < len(names):
            fetched = fetched.at([once[name] for name in names])
        places = absent_places(len(names))
        there = fetched.addresses != 0
        places[there, STATUS], places[there, SHARD] = GOOD, 0
        places[there, AT], places[there, SIZE] = fetched.addresses[there], fetched.sizes[there]
        return Portion(first, names, fetched, places)

    def _submit(self, cut: tuple[int, tuple[str, ...]]) -> Future[Portion]:
        while True:
            pool = self._threads()
            try:
                return pool.submit(self._portion, cut)
            except RuntimeError:
                if pool is self._pool:  # the interpreter ends; else another thread closed the store just now
                    raise

    def _threads(self) -> ThreadPoolExecutor:
        pool = self._pool  # looked at once: another thread may close the store at any time
        if pool is None or self._pid != os.getpid():
            pool = self._pool = ThreadPoolExecutor(THREADS, "featx-fetch")
            self._pid = os.getpid()
        return pool


def checked_names(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys as text. Raises UsageError for what is no key."""
    names = tuple(key if isinstance(key, str) else str(key) for key in keys)
    for name in names:
        store_key(name)
    return names
