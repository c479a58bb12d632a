"""Rows of numbers that the compiled reader is told and tells: ``csrc/store/words.cpp``, ``csrc/store/record.h``."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from featx.codec import VERSION, layout
from featx.errors import UsageError
from featx.schema import Array, Schema

# A place is a row of eight numbers: struct Place.
STATUS, SHARD, AT, SIZE, ROWS, COUNT = range(6)
GOOD, ABSENT, BAD_TREE, BAD_RECORD, BAD_CHECKSUM, TOO_LONG, BAD_CHOICE = range(7)
_AS_STORED, _HALF, _BFLOAT, _CODES = range(4)
_WIDENED = {"float16": _HALF, "bfloat16": _BFLOAT, "int8": _CODES}


def absent_places(count: int) -> Array:
    """Places of ``count`` records that were not found yet, int64 ``[count, 8]``."""
    places = np.zeros((count, 8), np.int64)
    places[:, STATUS] = ABSENT
    return places


@lru_cache(maxsize=64)
def schema_words(schema: Schema, features: str) -> Array:
    """The schema for the compiled reader; ``features`` is their dtype in the batch."""
    slots = layout(schema, 1)[0]
    words = [VERSION, VERSION, -1 if schema.rows is None else schema.rows, len(slots)]
    for slot in slots:
        words += [slot.size, slot.field.per == "region"]
    for number, slot in enumerate(slots):
        field = slot.field
        if slot.name != field.name:  # the scales of the next one
            continue
        kept = field.dtype == (features if field == schema.fields[0] else str(field.memory_dtype))
        words += [number, _AS_STORED if kept else _WIDENED[field.dtype], prod(field.shape)]
    return np.array(words, np.int64)


def too_long(name: str, rows: int, room: int) -> UsageError:
    """The error for a record that has more rows than the batch has room for."""
    return UsageError(f"record {name!r} has {rows} rows, out has room for {room}", "make a buffer of more rows")
