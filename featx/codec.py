"""Record <-> bytes. FORMAT.md in code: pure functions over numpy and xxhash, no files.

A stored record is a 48-byte header and a payload, all little-endian::

    0   4s   b"FXRC"
    4   u16  version (1)
    6   u16  flags (0)
    8   u32  rows      N, rows of every per-region array
    12  u32  count     how many of the rows are real
    16  u32  height    of the upright original, pixels
    20  u32  width
    24  u64  ordinal   position of the picture in the source list
    32  8x   zeros
    40  u64  checksum  xxh3_64 of bytes 0..40 and the payload, seeded by xxh3_64 of the key
    48       the schema's arrays in its order, each padded with zeros to a multiple of 16 bytes;
             an int8 field is two of them, its scales first (featx/rounding.py has the formula)

The length follows from (schema, rows), so nothing in a record says where anything is, and nothing
can lie about it. The seed ties the bytes to their key: a record filed under another key is found out.
"""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import xxhash

from featx.errors import RecordError, StoreDamaged, StoreError, UsageError
from featx.record import Record
from featx.rounding import from_bfloat16, from_int8, to_bfloat16, to_int8
from featx.schema import Array, Field, Schema

MAGIC = b"FXRC"
VERSION = 1
ALIGN = 16
KEY_LIMIT = 400  # bytes; LMDB ends at 511 and a shortened key needs room for its 65 bytes of hash
HEADER = struct.Struct("<4sHHIIIIQ8x")
CHECKSUM = struct.Struct("<Q")
HEADER_SIZE = HEADER.size + CHECKSUM.size
HEADER_DTYPE = np.dtype(  # the same, for many headers at once
    {
        "names": ["magic", "version", "flags", "rows", "count", "height", "width", "ordinal", "zeros", "checksum"],
        "formats": ["S4", "<u2", "<u2", "<u4", "<u4", "<u4", "<u4", "<u8", "V8", "<u8"],
    }
)

STORED_DTYPE: dict[str, np.dtype[Any]] = {
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),  # the upper half of a float32
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("u1"),  # the codes; their scales are float32
}
_REPAIR = "run `featx verify` on the store; delete the damaged part and run the extraction again"


class Header(NamedTuple):
    """The numbers at the front of a stored record (see the module docstring)."""

    rows: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    height: int
    width: int
    ordinal: int
    checksum: int


class Slot(NamedTuple):
    """One array of a stored record: a field of the schema or, of an int8 field, its scales or its codes."""

    name: str
    field: Field
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of one row of it; of the whole array where it has no rows."""
        return self.shape[1:] if self.field.per == "region" else self.shape


@lru_cache(maxsize=1024)
def layout(schema: Schema, rows: int) -> tuple[tuple[Slot, ...], int]:
    """The arrays of a record of ``rows`` rows, in their order, and the length of that record."""
    slots, offset = [], HEADER_SIZE
    for field in schema.fields:
        for name in field.stored_names:
            dtype, shape = STORED_DTYPE[field.dtype], field.shape_for(rows)
            if name != field.name:
                dtype, shape = STORED_DTYPE["float32"], (rows, 2)
            size = prod(shape) * dtype.itemsize
            slots.append(Slot(name, field, dtype, shape, offset, size))
            offset += size + -size % ALIGN
    return tuple(slots), offset


def encode(record: Record, schema: Schema, key: bytes, ordinal: int) -> bytes:
    """Bytes of ``record`` under ``key`` (see :func:`store_key`). The record must have passed its check."""
    out = bytearray(layout(schema, len(record.features))[1])
    encode_into(out, record, schema, key, ordinal)
    return bytes(out)


def encode_into(out: bytearray | memoryview, record: Record, schema: Schema, key: bytes, ordinal: int) -> None:
    """Write the bytes of ``record`` to ``out``, as long as :func:`layout` says, whatever was there."""
    height, width = record.size
    if not (0 <= height < 2**32 and 0 <= width < 2**32 and 0 <= ordinal < 2**64):
        raise RecordError(
            f"size {record.size} or ordinal {ordinal} does not fit an unsigned 32 or 64 bit number",
            "give the size of the upright original in pixels, and the position in the source list",
        )
    arrays = (array for field in schema.fields for array in _to_stored(record.array(field.name), field))
    for slot, array in zip(layout(schema, len(record.features))[0], arrays, strict=True):
        np.ndarray(slot.shape, slot.dtype, out, slot.offset)[...] = array
        if padding := -slot.size % ALIGN:
            end = slot.offset + slot.size
            out[end : end + padding] = bytes(padding)
    head = Header(len(record.features), record.count, height, width, ordinal, 0)
    out[: HEADER.size] = _front(head)
    out[HEADER.size : HEADER_SIZE] = CHECKSUM.pack(checksum(out, key))


def decode(buffer: Any, schema: Schema, key: bytes, *, verify: bool = True) -> Record:
    """The record in ``buffer``; its arrays are read-only, and views of it but for widened ones.

    Raises StoreDamaged, naming the key and what differs, for bytes that :func:`encode` did not write
    under this key. ``verify=False`` leaves out the checksum, never the structure.
    """
    head, stored = unpack(buffer, schema, key, verify=verify)
    waiting = iter(stored)
    arrays = {f.name: _from_stored([next(waiting) for _ in f.stored_names], f) for f in schema.fields}
    return Record(arrays.pop("features"), arrays.pop("boxes"), (head.height, head.width), head.count, arrays)


def pack(head: Header, arrays: Iterable[Array]) -> bytes:
    """Bytes of a record from its header and its arrays, as :func:`layout` has them."""
    return b"".join((_front(head), CHECKSUM.pack(head.checksum), *_padded(arrays)))


def unpack(buffer: Any, schema: Schema, key: bytes, *, verify: bool = True) -> tuple[Header, list[Array]]:
    """Inverse of :func:`pack`: the header and views of the arrays, as :func:`layout` has them."""
    head = examine(buffer, schema, key)
    if verify:
        found = checksum(buffer, key)
        if found != head.checksum:
            raise _damaged(key, f"the bytes have checksum {found:016x}, the header says {head.checksum:016x}")
    slots = layout(schema, head.rows)[0]
    return head, [np.ndarray(slot.shape, slot.dtype, buffer, slot.offset) for slot in slots]


def peek(buffer: Any, key: bytes = b"") -> Header:
    """The header of a stored record. Raises StoreDamaged (or StoreError for a newer version)."""
    if len(buffer) < HEADER_SIZE:
        raise _damaged(key, f"{len(buffer)} bytes are shorter than a header of {HEADER_SIZE}")
    magic, version, flags, *numbers = HEADER.unpack_from(buffer)
    if magic != MAGIC:
        raise _damaged(key, f"it begins with {magic!r}, expected {MAGIC!r}")
    if version > VERSION:
        raise StoreError(
            f"record {text(key)!r} has format {version}, this featx reads up to {VERSION}", "upgrade featx"
        )
    if version != VERSION or flags:
        raise _damaged(key, f"it has version {version} and flags {flags}, expected {VERSION} and 0")
    return Header(*numbers, *CHECKSUM.unpack_from(buffer, HEADER.size))


def examine(buffer: Any, schema: Schema, key: bytes) -> Header:
    """The header, after checking it against the schema and the length; reads nothing behind the header."""
    head = peek(buffer, key)
    expected = layout(schema, head.rows)[1]
    if len(buffer) != expected:
        raise _damaged(key, f"it is {len(buffer)} bytes long, its {head.rows} rows make {expected}")
    if schema.rows not in (None, head.rows):
        raise _damaged(key, f"it has {head.rows} rows, the schema fixes {schema.rows}")
    if head.count > head.rows:
        raise _damaged(key, f"it counts {head.count} regions in {head.rows} rows")
    return head


def first_record(buffer: memoryview, schema: Schema, key: bytes) -> memoryview:
    """The record with which ``buffer`` begins, examined; it may be followed by other bytes."""
    record = buffer[: layout(schema, peek(buffer, key).rows)[1]]
    examine(record, schema, key)
    return record


def checksum(buffer: Any, key: bytes) -> int:
    """The checksum that a record with these bytes must carry under ``key``."""
    view = memoryview(buffer)
    return _checksum(key, view[: HEADER.size], [view[HEADER_SIZE:]])


def store_key(name: str) -> bytes:
    """The key under which the picture ``name`` is stored: its NFC form as UTF-8.

    A name of more than 400 bytes becomes its first 400 (cut between characters), ``~`` and the sha256 of
    the whole: longer than any key that is kept as it is, so the two kinds cannot meet. Raises UsageError
    for an empty name and for control characters, line breaks included.
    """
    if name.isascii() and name.isprintable() and 0 < len(name) <= KEY_LIMIT:
        return name.encode()
    name = unicodedata.normalize("NFC", name)
    bad = next((c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if not name or bad is not None:
        found = "an empty key" if not name else f"key {name[:80]!r} holds the character {bad!r}"
        raise UsageError(f"{found}; a key is text without control characters", "rename the picture or its entry")
    key = name.encode()
    if len(key) <= KEY_LIMIT:
        return key
    front = key[:KEY_LIMIT].decode(errors="ignore").encode()
    return front + b"~" + hashlib.sha256(key).hexdigest().encode()


def text(key: bytes) -> str:
    """A stored key as text; never fails, so that damaged keys can be reported."""
    return key.decode(errors="backslashreplace")


def _front(head: Header) -> bytes:
    return HEADER.pack(MAGIC, VERSION, 0, head.rows, head.count, head.height, head.width, head.ordinal)


def _padded(arrays: Iterable[Array]) -> Iterator[Any]:
    for array in arrays:
        yield array
        yield bytes(-array.nbytes % ALIGN)


def _checksum(key: bytes, front: Any, payload: Iterable[Any]) -> int:
    state = xxhash.xxh3_64(front, seed=xxhash.xxh3_64_intdigest(key))
    for piece in payload:
        state.update(piece)
    return state.intdigest()


def _to_stored(array: Array, field: Field) -> tuple[Array, ...]:
    if field.dtype == "bfloat16":
        return (to_bfloat16(array, field.name),)
    if field.dtype == "int8":
        return to_int8(array, field.name)
    return (array,)


def _from_stored(arrays: list[Array], field: Field) -> Array:
    array = arrays[-1]
    if field.dtype == "bfloat16":
        array = from_bfloat16(array)
    elif field.dtype == "int8":
        array = from_int8(*arrays)
    array.flags.writeable = False
    return array


def _damaged(key: bytes, what: str) -> StoreDamaged:
    return StoreDamaged(f"record {text(key)!r} is damaged: {what}", _REPAIR)
