"""Batches by the compiled reader: one call finds the records of all keys, another checks and converts them.

What Python tells it are rows of int64 (``words``), addresses among them.
``batch`` is the plain twin, record by record, which gives the same bits.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from featx.codec import layout, store_key, text, unpack
from featx.errors import FeatxError, StoreDamaged
from featx.record import RecordBatch
from featx.schema import Array, Field, Schema
from featx.store.base import Shard
from featx.store.batch import allocate, check_asked, places_of
from featx.store.native import reader, usable_cores
from featx.store.reader import Checksums
from featx.store.words import (
    ABSENT,
    BAD_CHOICE,
    BAD_TREE,
    COUNT,
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

_LOOSE = 2  # a shard without a file: records in memory
_POLICIES: dict[Checksums, int] = {"never": 0, "once": 1, "always": 2}
_LARGEST = 2**31  # values of a row, rows of a record: no product of three such numbers is taken
_STREAMED = 4 << 20  # bytes of features from which a batch is larger than the caches

Missing = Callable[[str], FeatxError]


def gatherable(schema: Schema) -> bool:
    """Whether batches of such records can be gathered here; others are too large to be records, as ``batch`` says."""
    products = [prod(field.shape) for field in schema.fields]
    extents = [extent for field in schema.fields for extent in field.shape]
    return max(*products, *extents, schema.rows or 0) <= _LARGEST


class Found(NamedTuple):
    """Records that were found, and some of their fields; see :meth:`Gather.find`.

    counts: real rows of each, int64 ``[B]``. arrays: by name ``[B, N, *shape]``, or ``[B, *shape]`` of a field of the
    picture; zeros behind the rows of a record.
    """

    counts: Array
    arrays: dict[str, Array]
    places: Array
    held: list[bytes]


class Choice(NamedTuple):
    """The rows that are wanted of each record that was found: the first ``counts[i]`` of ``rows[i]``, int64 ``[B, K]``.

    schema: what the records are then.
    """

    found: Found
    schema: Schema
    rows: Array
    counts: Array


class Gather:
    """The records of open files, for batches. ``threads`` is how many a call uses, the caller's among them."""

    def __init__(self, schema: Schema, shards: Sequence[Shard], checksums: Checksums) -> None:
        self.schema, self.threads = schema, min(4, usable_cores())
        self._policy, self._fields = _POLICIES[checksums], schema_words(schema, "float32")
        self._files: list[Shard] = []
        self._others: list[Shard] = []
        self._owners: list[object] = []
        self._lengths: dict[int, int] = {}  # by rows: ``layout`` may compare schemas, which is slower than the search
        self._mapped: list[tuple[int, memoryview | None]] = []
        words: list[int] = []
        for shard in shards:
            found = shard.words()
            if found is None:
                self._others.append(shard)
                continue
            marks = _marks(found.marks)
            self._files.append(shard)
            self._owners += [found.owner, marks]
            self._mapped.append((int(found.rest[0]), found.mapped))
            words += [*found.kind, marks.ctypes.data, *found.rest]
        self._words = np.array([*words, _LOOSE, 0], np.uint64)  # a root may be any number

    def row_counts(self, keys: Sequence[str], missing: Missing) -> Array:
        """Rows, and real rows among them, of each record: ``[B, 2]`` int64."""
        places = absent_places(len(keys))
        self._locate(tuple(keys), places, missing)
        return places[:, [ROWS, COUNT]]

    @property
    def told(self) -> tuple[Array, Array, bytes]:
        """What the compiled reader is told of the files: the schema, the files, and a byte for each of them: 1 where
        records lie whole in it. There are addresses in it that hold as long as this object."""
        return self._fields, self._words, bytes(mapped is not None for _, mapped in self._mapped)

    @property
    def maps(self) -> list[memoryview]:
        """The mapped files in which records lie whole."""
        return [mapped for _, mapped in self._mapped if mapped is not None]

    def span(self, key: str) -> memoryview | None:
        """See :meth:`spans`; the short way of one key."""
        place = _NOWHERE.copy()
        if not reader().module.gather(self._fields, self._words, (key,), _stored, place, None, 1):
            return None
        found = self._span(place[0].tolist())
        return found if isinstance(found, memoryview) else None

    def spans(self, keys: Sequence[str]) -> Sequence[memoryview | int | None]:
        """The stored bytes of each key where they lie in a mapped file, read-only and not copied.

        Their structure was checked, not their checksum. A number: their length, where they do not lie whole in a file.
        None: they are not good, or not in a mapped file; :meth:`featx.store.StoreReader.find` says more. Raises
        UsageError for what is no key.
        """
        places = absent_places(len(keys))
        reader().module.gather(self._fields, self._words, tuple(keys), _stored, places, None, 1)
        return [self._span(place) for place in places.tolist()]

    def _span(self, place: list[int]) -> memoryview | int | None:
        status, file, at, _, rows, *_ = place
        if status != GOOD:
            return None
        start, mapped = self._mapped[file]
        length = self._lengths.get(rows)
        if length is None:
            length = self._lengths[rows] = layout(self.schema, rows)[1]
        return length if mapped is None else mapped[at - start : at - start + length]

    def find(self, keys: Sequence[str], fields: Sequence[Field], missing: Missing) -> Found:
        """Records with the values of some small ``fields``, in the dtypes of memory; checked as a batch of them is."""
        names, places = tuple(keys), absent_places(len(keys))
        held = self._locate(names, places, missing)
        rows = int(places[:, ROWS].max(initial=0))
        arrays = {
            f.name: np.empty((len(keys), *((rows,) if f.per == "region" else ()), *f.shape), f.memory_dtype)
            for f in fields
        }
        mask, sizes = np.empty((len(keys), rows), bool), np.empty((len(keys), 2), np.float32)
        wanted = [arrays[f.name].ctypes.data if f.name in arrays else 0 for f in self.schema.fields]
        batch = np.array([rows, 0, 0, self._policy, mask.ctypes.data, sizes.ctypes.data, *wanted], np.int64)
        if not self._native(schema_words(self.schema, "float32"), names, places, batch):
            self._refuse(names, places, rows, missing)
        return Found(places[:, COUNT].copy(), arrays, places, held)

    def chosen(
        self, keys: Sequence[str], choice: Choice, out: RecordBatch | None, dtype: str, boxes: str,
        fields: Sequence[str] | None, missing: Missing,
    ) -> RecordBatch:  # fmt: skip
        """A batch of some rows of the records that were found for ``keys``."""
        schema, names, most = choice.schema, tuple(keys), int(choice.counts.max(initial=0))
        check_asked(schema, len(names), out, dtype, boxes, fields)
        if out is None:
            out = allocate(schema, len(names), most if schema.rows is None else schema.rows, dtype, fields)
        room = out.features.shape[1]
        if most > room:
            longest = int(choice.counts.argmax())
            raise too_long(names[longest], most, room)
        batch = places_of(out, names)
        words = schema_words(self.schema, str(batch.features.dtype).removeprefix("torch."))
        rows, counts = (np.ascontiguousarray(array, np.int64) for array in (choice.rows, choice.counts))
        numbers = [rows.ctypes.data, counts.ctypes.data, rows.shape[1]]
        told = np.concatenate([self._batch_words(batch, boxes, _POLICIES["never"]), np.array(numbers, np.int64)])
        if not self._native(words, names, choice.found.places, told):
            self._refuse(names, choice.found.places, room, missing)
        return batch

    def batch(
        self, keys: Sequence[str], out: RecordBatch | None, dtype: str, boxes: str, fields: Sequence[str] | None,
        missing: Missing,
    ) -> RecordBatch:  # fmt: skip
        """See :meth:`featx.store.StoreReader.get_batch`. ``missing`` makes the error for a key that is not there."""
        check_asked(self.schema, len(keys), out, dtype, boxes, fields)
        names, places = tuple(keys), absent_places(len(keys))
        held: list[bytes] = []
        rows = self.schema.rows
        if self._others or (out is None and rows is None):
            held = self._locate(names, places, missing)
        if out is None:
            rows = int(places[:, ROWS].max(initial=0)) if rows is None else rows
            out = allocate(self.schema, len(names), rows, dtype, fields)
        batch = places_of(out, names)
        words = schema_words(self.schema, str(batch.features.dtype).removeprefix("torch."))
        if not self._native(words, names, places, self._batch_words(batch, boxes, self._policy)):
            self._refuse(names, places, out.features.shape[1], missing)
        del held
        return batch

    def _native(self, words: Array, names: tuple[str, ...], places: Array, batch: Array | None) -> bool:
        done = reader().module.gather(words, self._words, names, _stored, places, batch, self.threads)
        return bool(done)

    def _locate(self, names: tuple[str, ...], places: Array, missing: Missing) -> list[bytes]:
        """Fill the places of all records. Returns what must be kept until they were read."""
        words, held = schema_words(self.schema, "float32"), list[bytes]()
        if self._native(words, names, places, None):
            return held
        for number in np.flatnonzero(places[:, STATUS] != GOOD).tolist() if self._others else ():
            key = store_key(names[number])
            record = next((found for shard in self._others if (found := shard.get(key)) is not None), None)
            if record is not None and places[number, STATUS] in (ABSENT, BAD_TREE):
                address = np.frombuffer(record, np.uint8).ctypes.data
                places[number, : SIZE + 1] = GOOD, len(self._files), address, len(record)
                held.append(record)
        if not (held and self._native(words, names, places, None)):
            self._refuse(names, places, 0, missing)
        return held

    def _refuse(self, names: tuple[str, ...], places: Array, room: int, missing: Missing) -> None:
        """Raise for the first record that is not good."""
        number = int(np.flatnonzero(places[:, STATUS] != GOOD)[0])
        status, name, file = int(places[number, STATUS]), names[number], int(places[number, SHARD])
        if status == ABSENT:
            raise missing(name)
        if status == TOO_LONG:
            raise too_long(name, int(places[number, ROWS]), room)
        if status == BAD_CHOICE:
            raise AssertionError(f"rows were chosen that record {name!r} has not")
        key = store_key(name)
        shard = self._files[file] if file < len(self._files) else next(s for s in self._others if key in s)
        try:
            unpack(shard.get(key) or b"", self.schema, key)
        except FeatxError as error:
            where = "" if str(shard.path) in error.message else f" (in {shard.path})"
            raise type(error)(error.message + where, error.hint) from None
        raise StoreDamaged(
            f"record {text(key)!r} in {shard.path} changed while it was read", "run `featx verify` on the store"
        )

    def _batch_words(self, batch: RecordBatch, boxes: str, policy: int) -> Array:
        features = batch.features
        stream = features.numel() * features.element_size() >= _STREAMED
        tensors = [features, batch.boxes, *(batch.extra.get(field.name) for field in self.schema.extras)]
        numbers = [
            features.shape[1],
            boxes == "unit",
            stream,
            policy,
            batch.mask.data_ptr(),
            batch.sizes.data_ptr(),
        ]
        return np.array([*numbers, *(0 if t is None else t.data_ptr() for t in tensors)], np.int64)


_NOWHERE = absent_places(1)


def _stored(name: object) -> bytes:
    """The stored key of whatever was given as one."""
    return store_key(name if isinstance(name, str) else str(name))


def _marks(count: int) -> Array:
    """A bit for each record, in memory that comes into being where it is written."""
    size = count // 8 + 1
    flags = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0) | getattr(mmap, "MAP_NORESERVE", 0)
    made: Any = mmap.mmap(-1, size, flags)
    return np.frombuffer(made, np.uint8)
