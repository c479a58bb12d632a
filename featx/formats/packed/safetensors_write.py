"""Safetensors files written front first: what every tensor is follows from the row counts, so data is only passed on.

The library keeps tensors without holes and checks that; torch looks at them in place, for which each must lie at a
multiple of its width. So the arrays of a picture come widest first, and where its length is no multiple of the widest,
a few zeros named ``KEY/_`` fill it up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from featx.errors import StoreError, UsageError
from featx.formats.packed.safetensors_header import FRONT, METADATA
from featx.formats.records import Records
from featx.record import Record
from featx.rounding import to_bfloat16
from featx.schema import Field, Schema

SIZE, COUNT, FILLER = "size", "count", "_"  # besides the fields; no store has a field of the first two names
_CODES = {
    "float16": ("F16", "<f2"), "float32": ("F32", "<f4"), "bfloat16": ("BF16", "<u2"), "int8": ("F32", "<f4"),
    "int32": ("I32", "<i4"), "int64": ("I64", "<i8"), "uint8": ("U8", "u1"),
}  # fmt: skip
_AT_ONCE = 4096  # pictures whose rows are counted at a time
_TALLEST = 2**31 - 1  # pixels

Counted = tuple[str, int, int]  # key, rows, real rows


class Slot(NamedTuple):
    """A tensor of a picture: its name behind that of the picture, and what the header says of it."""

    name: str
    field: Field | None
    code: str
    dtype: str
    shape: tuple[int, ...]
    size: int


class Shard(NamedTuple):
    """A file to be: how many pictures it holds, and the bytes of its JSON, without padding, and of its data."""

    pictures: int
    front: int
    data: int


@lru_cache(maxsize=4096)
def slots(schema: Schema, rows: int, count: int) -> tuple[Slot, ...]:
    """The tensors of a picture, in the order in which they lie in the file."""
    found = [_slot(field.name, field, field.dtype, field.shape_for(rows)) for field in schema.fields]
    found.append(_slot(SIZE, None, "int32", (2,)))
    if count != rows:
        found.append(_slot(COUNT, None, "int32", (1,)))
    widths = {slot.name: np.dtype(slot.dtype).itemsize for slot in found}
    found.sort(key=lambda slot: -widths[slot.name])
    if filler := -sum(slot.size for slot in found) % max(widths.values()):
        found.append(_slot(FILLER, None, "uint8", (filler,)))
    return tuple(found)


def _slot(name: str, field: Field | None, kind: str, shape: tuple[int, ...]) -> Slot:
    code, dtype = _CODES[kind]
    return Slot(name, field, code, dtype, shape, prod(shape) * np.dtype(dtype).itemsize)


def check_names(schema: Schema) -> None:
    """Raise UsageError for a field whose name would not be told apart from that of a picture, or of the zeros."""
    if bad := next((name for name in schema.names if "/" in name or name == FILLER), None):
        raise UsageError(f"a field called {bad!r} has no place in safetensors", "export another format")


def counted(records: Records) -> Iterator[Counted]:
    """Every picture with its row counts, in the order of writing."""
    keys = records.keys()
    while some := list(islice(keys, _AT_ONCE)):
        for key, (rows, count) in zip(some, records.store.row_counts(some).tolist(), strict=True):
            yield key, rows, count


def plan(records: Records, front: bytes, most_front: int, most_data: int | None) -> list[Shard]:
    """The files that hold all pictures, none with more JSON or data than is said (None: there is no bound).

    front: the JSON up to the first tensor. A single picture may be more than ``most_data``.
    """
    found, pictures, length, data = [], 0, len(front) + 1, 0
    for key, rows, count in counted(records):
        tensors = slots(records.schema, rows, count)
        size, entries = sum(slot.size for slot in tensors), _entries(key, tensors, data)
        full = most_data is not None and data + size > most_data
        if pictures and (full or length + len(entries) > most_front):
            found.append(Shard(pictures, length, data))
            pictures, length, data = 0, len(front) + 1, 0
            entries = _entries(key, tensors, data)
        pictures, length, data = pictures + 1, length + len(entries), data + size
    return [*found, Shard(pictures, length, data)]


def front_of(metadata: dict[str, str]) -> bytes:
    """The JSON of a file up to its first tensor."""
    return json.dumps({METADATA: metadata}, ensure_ascii=False)[:-1].encode()


def write_shard(
    file: BinaryIO, shard: Shard, schema: Schema, front: bytes, pictures: Iterator[Counted],
    records: Iterator[tuple[str, Record]],
) -> None:  # fmt: skip
    """Write one file: its front from the next of the ``pictures``, its data from the next of the ``records``.

    Raises UsageError for sides of a picture beyond int32, StoreError for a store that changed meanwhile.
    """
    padding = -shard.front % FRONT
    file.write((shard.front + padding).to_bytes(FRONT, "little") + front)
    place = 0
    for key, rows, count in islice(pictures, shard.pictures):
        tensors = slots(schema, rows, count)
        file.write(_entries(key, tensors, place))
        place += sum(slot.size for slot in tensors)
    file.write(b"}" + b" " * padding)
    written = 0
    for key, record in islice(records, shard.pictures):
        for slot in slots(schema, len(record.features), record.count):
            written += file.write(_bytes(slot, key, record))
    if not place == written == shard.data:
        raise StoreError("the store was changed while it was exported", "export it again when its writer is through")


def write_index(file: BinaryIO, names: Iterable[str], shards: list[Shard], records: Records) -> None:
    """The index that goes with several files, as transformers has it: which tensor is in which."""
    total = sum(shard.data for shard in shards)
    file.write(b'{"metadata": {"total_size": %d}, "weight_map": {' % total)
    pictures, separator = counted(records), b"\n"
    for name, shard in zip(names, shards, strict=True):
        for key, rows, count in islice(pictures, shard.pictures):
            for slot in slots(records.schema, rows, count):
                file.write(separator + f"{_text(f'{key}/{slot.name}')}: {_text(name)}".encode())
                separator = b",\n"
    file.write(b"\n}}\n")


def _entries(key: str, tensors: tuple[Slot, ...], place: int) -> bytes:
    parts = []
    for slot in tensors:
        shape = ",".join(map(str, slot.shape))
        offsets = f"{place},{place + slot.size}"
        parts.append(
            f',{_text(f"{key}/{slot.name}")}:{{"dtype":"{slot.code}","shape":[{shape}],"data_offsets":[{offsets}]}}'
        )
        place += slot.size
    return "".join(parts).encode()


def _bytes(slot: Slot, key: str, record: Record) -> Any:
    if slot.field is not None:
        array = record.array(slot.field.name)
        if slot.field.dtype == "bfloat16":
            array = to_bfloat16(array, slot.name)
        return np.ascontiguousarray(array, slot.dtype).tobytes()
    if slot.name == FILLER:
        return bytes(slot.size)
    if max(record.size) > _TALLEST:
        raise UsageError(f"picture {key!r} of {record.size} pixels does not fit int32", "export another format")
    return np.array(record.size if slot.name == SIZE else [record.count], slot.dtype).tobytes()


def _text(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
