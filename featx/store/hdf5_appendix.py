"""What is written behind a log to make it an HDF5 file, its records where they lie: columns, chunk indices, headers.

A field is a dataset of one chunk per record, which is that field's array within the record; the columns are contiguous.
Records are counted by ascending key, wherever they lie.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.codec import HEADER_DTYPE, HEADER_SIZE, Slot, layout
from featx.errors import StoreDamaged
from featx.schema import Array, Schema
from featx.store import hdf5_pages as pages
from featx.store.hdf5_columns import COLUMNS, OFFSET, readme, slot_attributes, slots_of
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.log_group import FIRST, PAGE

VERSION = 2  # the attribute of the file; 1 has contiguous arrays
_ALIGN = 64  # bytes, of a column: for those who map the file
_AT_ONCE = 1 << 18  # chunks whose index is made together: fewer is slower, more needs several times their bytes
_README = readme(
    "its regions are the rows of features[i], boxes[i] and the other per-region arrays",
    " offset[i] is the byte of this file at which the whole record begins.",
)


class _Appendix:
    """Bytes behind byte ``end`` of a file."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.pieces: list[bytes] = []

    def here(self) -> int:
        """Where the next bytes will lie."""
        return self.end + -self.end % 8

    def add(self, data: bytes, align: int = 8) -> int:
        """Add bytes, aligned. Returns where they lie in the file."""
        gap = -self.end % align
        self.pieces += [bytes(gap), data]
        self.end += gap + len(data)
        return self.end - len(data)


def appendix(columns: Mapping[str, Array], schema: Schema, end: int) -> tuple[bytes, list[bytes]]:
    """What makes an HDF5 file of a log whose groups end at byte ``end``: its first pages, and its appendix."""
    made = _Appendix(end)
    texts = _Texts(made, schema)
    members = [(name, made.add(_column(made, column, text=name == "keys"))) for name, column in columns.items()]
    slots = slots_of(schema)
    chunked = [slot for slot in slots if slot.size]
    indices: dict[Slot, int] = {}
    at_once = max(1, _AT_ONCE // max(1, len(columns[OFFSET])))
    for first in range(0, len(chunked), at_once):
        some = chunked[first : first + at_once]
        starts = np.stack([columns[OFFSET] + np.uint64(slot.offset) for slot in some])
        indices |= zip(some, map(made.add, pages.fixed_arrays(starts, made.here())), strict=True)
    for slot in slots:
        members.append((slot.name, made.add(_field(slot, len(columns[OFFSET]), indices.get(slot), texts))))
    root = made.add(pages.group(members, texts.of_file))
    return pages.superblock(made.end, root).ljust(FIRST * PAGE, b"\0"), made.pieces


def columns_of(log: Path, places: Mapping[bytes, int], schema: Schema) -> dict[str, Array]:
    """What a log says of its records, by ascending key. places: see :class:`featx.store.log_index.Index`.

    Raises StoreDamaged for records that are not of the schema.
    """
    keys = sorted(places)
    found = np.array([places[key] for key in keys], np.uint64)
    offsets = (found >> np.uint64(32)) * np.uint64(PAGE) + np.uint64(PAGE_HEADER.size)
    with log.open("rb", buffering=0) as file:
        heads = b"".join(os.pread(file.fileno(), HEADER_SIZE, place) for place in offsets.tolist())
    head = np.frombuffer(heads, HEADER_DTYPE)
    length = layout(schema, schema.rows or 0)[1]
    if (found % 2**32 != length).any() or (head["rows"] != schema.rows).any():
        raise StoreDamaged(f"{log} holds records that are not of the store's schema", "run `featx verify` on the store")
    columns = {
        "keys": np.array(keys),
        OFFSET: offsets,
        "size": np.stack([head["height"], head["width"]], 1),
        **{name: head[name] for name in ("count", "ordinal", "checksum")},
    }
    return {name: np.ascontiguousarray(columns[name].astype(dtype, copy=False)) for name, dtype in COLUMNS.items()}


class _Texts:
    """The attributes of the file and of its fields. Their texts lie in one heap."""

    def __init__(self, made: _Appendix, schema: Schema) -> None:
        kinds = {text: None for slot in slots_of(schema) for text in slot_attributes(slot).values()}
        self._texts = ["featx", _README, json.dumps(schema.to_dict()), *kinds]
        self._heap = made.add(pages.heap([text.encode() for text in self._texts]))
        version = pages.attribute("version", pages.number(np.dtype("<i8")), VERSION.to_bytes(8, "little"))
        named = zip(("format", "readme", "schema"), self._texts, strict=False)
        self.of_file = [pages.attribute_info(), version, *(self._attribute(name, text) for name, text in named)]

    def of_field(self, slot: Slot) -> list[bytes]:
        """As in files of version 1."""
        return [pages.attribute_info(), *(self._attribute(*each) for each in slot_attributes(slot).items())]

    def _attribute(self, name: str, text: str) -> bytes:
        place = self._texts.index(text) + 1
        return pages.attribute(name, pages.free_text(), pages.heap_reference(self._heap, place, len(text.encode())))


def _column(made: _Appendix, column: Array, *, text: bool) -> bytes:
    """Header of a column, which goes before it."""
    address = made.add(column.tobytes(), _ALIGN)
    datatype = pages.text(column.itemsize) if text else pages.number(column.dtype)
    return pages.dataset(column.shape, datatype, pages.contiguous(address, column.nbytes))


def _field(slot: Slot, count: int, index: int | None, texts: _Texts) -> bytes:
    """Header of a field; one of no bytes has no index."""
    if index is None:
        where = pages.contiguous(pages.UNDEFINED, 0)
    else:
        where = pages.chunked((1, *slot.shape), slot.dtype.itemsize, index)
    shape, datatype = (count, *slot.shape), pages.number(slot.dtype)
    return pages.dataset(shape, datatype, where, texts.of_field(slot), early=index is not None)
