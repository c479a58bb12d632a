"""Records that were fetched from somewhere: they lie in memory, and the compiled reader makes batches of them there.

A batch is fetched in portions, each while the one before is converted: the line is never idle. What does not fit its
checksum is fetched once more before it is called damaged.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from featx.codec import decode, store_key, unpack
from featx.errors import FeatxError, StoreDamaged
from featx.record import Record, RecordBatch
from featx.schema import Array, Field, Schema
from featx.store.batch import allocate, check_boxes, check_out, places_of
from featx.store.gather import Found, Gather, Missing
from featx.store.reader import Checksums
from featx.store.words import (
    ABSENT,
    AT,
    GOOD,
    ROWS,
    SHARD,
    SIZE,
    STATUS,
    TOO_LONG,
    absent_places,
    schema_words,
    too_long,
)

THREADS = 8  # that fetch, for all who read a store at once
_DAMAGED = (
    "run `featx verify` on the store where it lies; if that finds nothing, something between changes what is sent"
)
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
        pool = self._threads
        try:
            return pool.submit(self._portion, cut)
        except RuntimeError:
            if pool is self._pool:  # the interpreter ends
                raise
            return self._threads.submit(self._portion, cut)  # another thread closed the store

    @property
    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():
            self._pool, self._pid = ThreadPoolExecutor(THREADS, "featx-fetch"), os.getpid()
        return self._pool


class RemoteGather(Gather):
    """Batches of the records of a source, by the compiled reader; see :class:`featx.store.gather.Gather`."""

    def __init__(self, schema: Schema, checksums: Checksums, fetcher: Fetcher) -> None:
        super().__init__(schema, [], checksums)
        self._fetcher = fetcher

    def batch(
        self, keys: Sequence[str], out: RecordBatch | None, dtype: str, boxes: str, fields: Sequence[str] | None,
        missing: Missing,
    ) -> RecordBatch:  # fmt: skip
        check_boxes(boxes)
        if out is not None:
            check_out(out, self.schema, len(keys), dtype, fields)
        names = checked_names(keys)
        portions: Iterator[Portion] = (self._examined(portion, missing) for portion in self._fetcher(names))
        if out is None:
            rows = self.schema.rows
            if rows is None:  # of the longest, which is known when all have come
                whole = list(portions)
                rows = max((int(portion.places[:, ROWS].max(initial=0)) for portion in whole), default=0)
                portions = iter(whole)
            out = allocate(self.schema, len(names), rows, dtype, fields)
        batch = places_of(out, names)
        for portion in portions:
            self._fill(portion, batch, boxes, missing)
        return batch

    def find(self, keys: Sequence[str], fields: Sequence[Field], missing: Missing) -> Found:
        """See :meth:`Gather.find`. What it finds stays in memory as long as that is held."""
        try:
            return super().find(checked_names(keys), fields, missing)
        except StoreDamaged:
            return super().find(checked_names(keys), fields, missing)

    def spans(self, keys: Sequence[str]) -> list[memoryview | None]:
        """None of them lies in a file."""
        return [None] * len(keys)

    def _locate(self, names: tuple[str, ...], places: Array, missing: Missing) -> list[Any]:
        held = []
        for portion in self._fetcher(names):
            examined = self._examined(portion, missing)
            places[portion.first : portion.first + len(portion.names)] = examined.places
            held.append(examined.fetched)
        return held

    def _examined(self, portion: Portion, missing: Missing) -> Portion:
        """A portion whose records have the structure that they must have, counts filled in."""
        words = schema_words(self.schema, "float32")
        if self._native(words, portion.names, portion.places, None):
            return portion
        if _broken(portion):
            portion = self._fetcher.again(portion)
        if not self._native(words, portion.names, portion.places, None):
            self._explain(portion, 0, missing)
        return portion

    def _fill(self, portion: Portion, batch: RecordBatch, boxes: str, missing: Missing) -> None:
        """Write the records of a portion to their places in the batch."""
        words = schema_words(self.schema, str(batch.features.dtype).removeprefix("torch."))
        part = _part(batch, portion)
        told = self._batch_words(part, boxes, self._policy)
        if self._native(words, portion.names, portion.places, told):
            return
        if _broken(portion):
            portion = self._fetcher.again(portion)
        if not self._native(words, portion.names, portion.places, told):
            self._explain(portion, batch.features.shape[1], missing)

    def _explain(self, portion: Portion, room: int, missing: Missing) -> None:
        """Raise for the first record that is not good."""
        place = int(np.flatnonzero(portion.places[:, STATUS] != GOOD)[0])
        if place in portion.fetched.errors:
            raise portion.fetched.errors[place]
        self._refuse(portion.names, portion.places, room, missing)

    def _refuse(self, names: tuple[str, ...], places: Array, room: int, missing: Missing) -> None:
        number = int(np.flatnonzero(places[:, STATUS] != GOOD)[0])
        row, name = places[number].tolist(), names[number]
        if row[STATUS] == ABSENT:
            raise missing(name)
        if row[STATUS] == TOO_LONG:
            raise too_long(name, row[ROWS], room)
        where = self._fetcher.source.where
        try:
            unpack(ctypes.string_at(row[AT], row[SIZE]), self.schema, store_key(name))
        except FeatxError as error:
            raise came_from(where, error) from None
        raise StoreDamaged(f"record {name!r} from {where} changed while it was read", "read it again")


def plain_records(
    fetcher: Fetcher, keys: Sequence[str], schema: Schema, verify: bool, missing: Missing
) -> Iterator[Record]:
    """The same without the compiled reader: the records of ``keys``, one after another, in memory of their own."""
    for portion in fetcher(checked_names(keys)):
        for place, name in enumerate(portion.names):
            try:
                record = _plain(portion, place, schema, verify, missing)
            except StoreDamaged:
                alone = fetcher.again(Portion(0, (name,), *portion[2:]))
                try:
                    record = _plain(alone, 0, schema, verify, missing)
                except FeatxError as error:
                    raise came_from(fetcher.source.where, error) from None
            yield record


def _plain(portion: Portion, place: int, schema: Schema, verify: bool, missing: Missing) -> Record:
    if place in portion.fetched.errors:
        raise portion.fetched.errors[place]
    if not portion.fetched.addresses[place]:
        raise missing(portion.names[place])
    return decode(portion.fetched.stored(place), schema, store_key(portion.names[place]), verify=verify)


def came_from(where: str, error: FeatxError) -> FeatxError:
    """The same error, with where the record came from."""
    message = error.message if where in error.message else f"{error.message} (from {where})"
    return type(error)(message, _DAMAGED if isinstance(error, StoreDamaged) else error.hint)


def checked_names(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys as text. Raises UsageError for what is no key."""
    names = tuple(key if isinstance(key, str) else str(key) for key in keys)
    for name in names:
        store_key(name)
    return names


def _broken(portion: Portion) -> bool:
    """Whether a record came, and is not good."""
    status = portion.places[:, STATUS]
    came = (portion.fetched.addresses != 0) & (status != TOO_LONG)
    return bool((came & (status != GOOD)).any())


def _part(batch: RecordBatch, portion: Portion) -> RecordBatch:
    """The places of a batch that belong to a portion."""
    begin, end = portion.first, portion.first + len(portion.names)
    return RecordBatch(
        portion.names, batch.features[begin:end], batch.boxes[begin:end], batch.mask[begin:end], batch.sizes[begin:end],
        {name: tensor[begin:end] for name, tensor in batch.extra.items()},
    )  # fmt: skip
