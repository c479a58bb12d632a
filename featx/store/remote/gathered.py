"""Batches out of records that were fetched, by the compiled reader or without it.

What does not fit its checksum is fetched once more before it is called damaged.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from featx.codec import decode, store_key, unpack
from featx.errors import FeatxError, StoreDamaged
from featx.record import Record, RecordBatch
from featx.schema import Array, Field, Schema
from featx.store.batch import allocate, check_asked, places_of
from featx.store.gather import Found, Gather, Missing
from featx.store.reader import Checksums
from featx.store.remote.fetched import Fetcher, Portion, checked_names
from featx.store.words import ABSENT, AT, GOOD, ROWS, SIZE, STATUS, TOO_LONG, schema_words, too_long

_DAMAGED = (
    "run `featx verify` on the store where it lies; if that finds nothing, something between changes what is sent"
)


class RemoteGather(Gather):
    """Batches of the records of a source, by the compiled reader; see :class:`featx.store.gather.Gather`."""

    def __init__(self, schema: Schema, checksums: Checksums, fetcher: Fetcher) -> None:
        super().__init__(schema, [], checksums)
        self._fetcher = fetcher

    def batch(
        self, keys: Sequence[str], out: RecordBatch | None, dtype: str, boxes: str, fields: Sequence[str] | None,
        missing: Missing,
    ) -> RecordBatch:  # fmt: skip
        check_asked(self.schema, len(keys), out, dtype, boxes, fields)
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
