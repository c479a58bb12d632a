"""Stored records as columns of Arrow, one row for each key that was asked for, in every form of a ticket.

records  ``record``: the stored bytes exactly as they lie (FORMAT.md), type binary, which every Arrow has
views    the same as binary_view, which newer Arrows have, and with which many records are sent uncopied in one batch
headers  what the header of the record says: ordinal, rows, count, size (height, width), checksum
keys     nothing more than ``key`` and ``problem``
arrays   the header but for rows, then the arrays of the schema as they are stored, each a (list of) fixed-size lists

``key`` comes first and ``problem`` last in all of them: null, or why there is no record under the key, whose other
columns are null then. Views are never copied; in the other forms a record of 256 KiB or more is a batch of its own and
not copied either. Smaller ones are put together, which costs less than more batches do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from featx.codec import HEADER_DTYPE, HEADER_SIZE, Slot, layout
from featx.errors import UsageError
from featx.schema import Array, Schema
from featx.serve.flight.tickets import Form
from featx.serve.spans import Bytes

ALONE = 256 << 10  # bytes from which a record is a batch of its own, in all forms but views
_POINTED = 16 << 10  # bytes from which views point at records where they lie
_NUMBERS = {"<u4": pa.uint32(), "<u8": pa.uint64()}
_HEADERS = ("ordinal", "count", "checksum")
_PROBLEM = pa.struct([pa.field(name, pa.utf8(), False) for name in ("kind", "message", "hint")])
_SIZE = pa.list_(pa.field("item", pa.uint32(), False), 2)
_VIEW = np.dtype([("length", "<i4"), ("prefix", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
_MEANING = {
    "bfloat16": "the upper half of a float32: shift it left by 16 bits",
    "int8": "value = scale * (code - zero) in float32, from [scale, zero] of the same row in the column of scales",
}


class Problem(NamedTuple):
    """Why there is no record. kind: "missing", "refused" (by the extraction), or "damaged"."""

    kind: str
    message: str
    hint: str


class Row(NamedTuple):
    """What was found for one key."""

    key: str
    record: Bytes | None
    problem: Problem | None = None


def arrow_schema(form: Form, schema: Schema, about: Mapping[str, str]) -> Any:
    """The schema of Arrow of one form of a store's records, with what is told ``about`` it."""
    plain: dict[str, list[Any]] = {
        "keys": [],
        "records": [pa.field("record", pa.binary())],
        "views": [pa.field("record", pa.binary_view())],
    }
    content = plain.get(form)
    if content is None:
        content = [pa.field("ordinal", pa.uint64()), pa.field("count", pa.uint32()), pa.field("size", _SIZE)]
        content += [pa.field("checksum", pa.uint64())]
        content += [pa.field("rows", pa.uint32())] if form == "headers" else _array_fields(schema)
    return pa.schema([pa.field("key", pa.utf8(), False), *content, pa.field("problem", _PROBLEM)], metadata=dict(about))


def batch_of(rows: Sequence[Row], form: Form, schema: Schema, arrow: Any) -> Any:
    """A batch of Arrow; a record that is alone in it is not copied."""
    records = [row.record for row in rows]
    if form == "keys":
        content = []
    elif form == "records":
        content = [_binary(records)]
    elif form == "views":
        content = [_views(records)]
    else:
        heads = np.frombuffer(
            b"".join(bytes(HEADER_SIZE) if r is None else r[:HEADER_SIZE] for r in records), HEADER_DTYPE
        )
        content = _header_columns(heads, records)
        content += [_numbers(heads["rows"], records)] if form == "headers" else _array_columns(heads, records, schema)
    keys = pa.array([row.key for row in rows], pa.utf8())
    return pa.RecordBatch.from_arrays([keys, *content, _problems([row.problem for row in rows])], schema=arrow)


def _problems(problems: Sequence[Problem | None]) -> Any:
    if any(problems):
        return pa.array([problem and problem._asdict() for problem in problems], _PROBLEM)
    return _no_problems(len(problems))


@lru_cache(maxsize=64)
def _no_problems(count: int) -> Any:
    return pa.nulls(count, _PROBLEM)


def _valid(records: Sequence[Bytes | None]) -> Any:
    """The bitmap of Arrow: which of the records are there; None when all are."""
    if None not in records:
        return None
    return pa.py_buffer(np.packbits([record is not None for record in records], bitorder="little").tobytes())


def _joined(pieces: Sequence[Any]) -> Any:
    """The pieces one behind the other; of a single one the very memory."""
    return pa.py_buffer(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _offsets(sizes: Sequence[int]) -> Any:
    return pa.py_buffer(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32).tobytes())


def _binary(records: Sequence[Bytes | None]) -> Any:
    pieces = [b"" if record is None else record for record in records]
    buffers = [_valid(records), _offsets([len(piece) for piece in pieces]), _joined(pieces)]
    return pa.Array.from_buffers(pa.binary(), len(records), buffers)


def _views(records: Sequence[Bytes | None]) -> Any:
    """Records that each stay where they are; small ones are put together, which costs less than to point at them."""
    views = np.zeros(len(records), _VIEW)
    there = [place for place, record in enumerate(records) if record is not None]
    pieces = [record for record in records if record is not None]
    sizes = [len(piece) for piece in pieces]
    views["length"][there] = sizes
    views["prefix"][there] = np.array([bytes(piece[:4]) for piece in pieces], "V4")
    if sum(sizes) >= _POINTED * len(sizes):
        views["buffer"][there] = np.arange(len(pieces))
        held = [pa.py_buffer(piece) for piece in pieces]
    else:
        views["offset"][there] = np.cumsum([0, *sizes[:-1]])
        held = [_joined(pieces)]
    return pa.Array.from_buffers(
        pa.binary_view(), len(records), [_valid(records), pa.py_buffer(views.tobytes()), *held]
    )


def _header_columns(heads: Array, records: Sequence[Bytes | None]) -> list[Any]:
    """ordinal, count, size and checksum."""
    size = np.empty((len(records), 2), np.uint32)
    size[:, 0], size[:, 1] = heads["height"], heads["width"]
    sizes = _filled(_SIZE, len(records), pa.py_buffer(size), _valid(records))
    ordinal, count, checksum = (_numbers(heads[name], records) for name in _HEADERS)
    return [ordinal, count, sizes, checksum]


def _numbers(values: Array, records: Sequence[Bytes | None]) -> Any:
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(_NUMBERS[values.dtype.str], len(records), [_valid(records), pa.py_buffer(values)])


def _array_fields(schema: Schema) -> list[Any]:
    if taken := {"key", "problem"} & {slot.name for slot in layout(schema, 1)[0]}:
        raise UsageError(
            f"a field of the store is called {min(taken)!r}, as is a column of every form", 'ask for the form "records"'
        )
    return [pa.field(slot.name, _type(slot, schema.rows), True, _told(slot)) for slot in layout(schema, 1)[0]]


def _told(slot: Slot) -> dict[str, str]:
    """The metadata of the column of a stored array."""
    field = slot.field
    told = {"featx.field": field.name, "featx.per": field.per, "featx.dtype": field.dtype}
    if slot.name != field.name:
        return {**told, "featx.dtype": "float32", "featx.meaning": f"scale and zero of each row of {field.name}"}
    return {**told, "featx.meaning": _MEANING[field.dtype]} if field.dtype in _MEANING else told


@lru_cache(maxsize=1024)
def _types(schema: Schema) -> list[tuple[Any, Any]]:
    """For each stored array the type of its column, and that of one of its rows."""
    return [(_type(slot, schema.rows), _tail_type(slot)) for slot in layout(schema, 1)[0]]


def _type(slot: Slot, rows: int | None) -> Any:
    """The type of Arrow of an array of a record; its first extent varies where ``rows`` is None."""
    kind = _tail_type(slot)
    if slot.field.per == "picture":
        return kind
    item = pa.field("item", kind, False)
    return pa.list_(item) if rows is None else pa.list_(item, rows)


def _tail_type(slot: Slot) -> Any:
    kind = pa.from_numpy_dtype(slot.dtype)
    for extent in reversed(slot.tail):
        kind = pa.list_(pa.field("item", kind, False), extent)
    return kind


def _array_columns(heads: Array, records: Sequence[Bytes | None], schema: Schema) -> list[Any]:
    """The arrays of the records, in the order of the schema."""
    rows = [schema.rows or 0 if record is None else int(n) for record, n in zip(records, heads["rows"], strict=True)]
    valid, count, columns = _valid(records), len(records), []
    for slots, (kind, tail) in zip(
        zip(*(layout(schema, n)[0] for n in rows), strict=True), _types(schema), strict=True
    ):
        data = _joined([
            bytes(slot.size) if record is None else record[slot.offset : slot.offset + slot.size]
            for slot, record in zip(slots, records, strict=True)
        ])  # fmt: skip
        if slots[0].field.per == "picture" or schema.rows is not None:
            columns.append(_filled(kind, count, data, valid))
            continue
        values = _filled(tail, sum(rows), data, None)
        columns.append(pa.Array.from_buffers(kind, count, [valid, _offsets(rows)], children=[values]))
    return columns


def _filled(kind: Any, count: int, data: Any, valid: Any) -> Any:
    """An array of ``count`` values, or lists of fixed size, over the numbers in ``data``."""
    if kind.num_fields == 0:
        return pa.Array.from_buffers(kind, count, [valid, data])
    values = _filled(kind.value_type, count * kind.list_size, data, None)
    return pa.Array.from_buffers(kind, count, [valid], children=[values])
