"""Records in an LMDB file whose tree cannot be followed any more: every page of the file is looked at by itself.

A leaf page says which page its values begin on, so a key is found wherever its own leaf is whole, whatever happened to
the pages above it. What is found is only a candidate: the checksum of a record, seeded by its key, decides.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featx.codec import MAGIC
from featx.errors import FeatxError
from featx.schema import Array
from featx.store.lmdb_file import read_meta

_LEAF = 2  # flag of a page
_BIG = 1  # flag of a node whose value has pages of its own
_HEADER = 16
_NODE = struct.Struct("<HHHH")  # low and high half of the value's length, flags, length of the key
_SIZES = tuple(1 << n for n in range(9, 16))


class Pages(NamedTuple):
    """The mapped file as pages [count, size] uint8, and which of them are leaves and starts of values of their own."""

    whole: Array
    size: int
    leaves: Array
    values: Array


def read_pages(path: Path) -> Pages | None:
    """The pages of a file; None when it is too short to have any."""
    length = path.stat().st_size
    if length < _SIZES[0]:
        return None
    whole = np.memmap(path, np.uint8, "r")
    size = _page_size(path, whole)
    table = whole[: length - length % size].reshape(-1, size)
    numbers = np.ascontiguousarray(table[:, :8]).view("<u8")[:, 0]
    flags = np.ascontiguousarray(table[:, 10:12]).view("<u2")[:, 0]
    own = numbers == np.arange(len(table), dtype=np.uint64)
    begins = (table[:, _HEADER : _HEADER + 4] == np.frombuffer(MAGIC, np.uint8)).all(axis=1)
    return Pages(whole, size, np.flatnonzero(own & (flags == _LEAF)), np.flatnonzero(begins))


def named_values(pages: Pages) -> Iterator[tuple[bytes, int, memoryview]]:
    """(key, page, what begins where its value should) for every node of every leaf that makes sense.

    The page is that of the value, -1 for one that lies in the leaf itself.
    """
    view = memoryview(pages.whole.data)
    for number in pages.leaves.tolist():
        page = view[number * pages.size : (number + 1) * pages.size]
        for at in _nodes(page):
            low, high, flags, length = _NODE.unpack_from(page, at)
            key, value, own = bytes(page[at + 8 : at + 8 + length]), page[at + 8 + length :], -1
            if flags & _BIG and len(value) >= 8:
                (own,) = struct.unpack_from("<Q", value)
                value = value_at(pages, own)
            if len(key) == length:
                yield key, own, value[: low | high << 16]


def value_at(pages: Pages, number: int) -> memoryview:
    """What follows the header of page ``number``, up to the end of the file; empty behind it."""
    return memoryview(pages.whole.data)[number * pages.size + _HEADER :]


def _nodes(page: memoryview) -> list[int]:
    """Where the nodes of a leaf begin."""
    (lower,) = struct.unpack_from("<H", page, 12)
    count = (min(lower, len(page)) - _HEADER) // 2
    places = np.frombuffer(page, "<u2", max(count, 0), _HEADER).tolist()
    return [place for place in places if _HEADER <= place <= len(page) - _NODE.size]


def _page_size(path: Path, whole: Array) -> int:
    """That of the meta page, or, if it is damaged, the one by which most pages carry their own number."""
    try:
        meta = read_meta(path)
    except FeatxError:
        meta = None
    return meta.page_size if meta else max(_SIZES, key=lambda size: _numbered(whole, size))


def _numbered(whole: Array, size: int) -> int:
    table = whole[: len(whole) - len(whole) % size].reshape(-1, size)
    numbers = np.ascontiguousarray(table[:, :8]).view("<u8")[:, 0]
    return int((numbers == np.arange(len(table), dtype=np.uint64)).sum())
