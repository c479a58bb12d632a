"""A group of an open part's records: how it lies in ``records.log``.

A group is an *index run*, which says which records follow, and one run of pages for each record. The index has a
checksum of its own which takes in that of the group before: a group is whole when its index is, when it follows on the
group before, and when its records have their checksums.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xxhash

from featx.codec import checksum, peek
from featx.errors import FeatxError
from featx.schema import Array
from featx.store.base import Bytes
from featx.store.lmdb_format import OVERFLOW, PAGE_HEADER

PAGE = 2048
FIRST = 2  # pages 0 and 1 are left to LMDB's meta pages, or HDF5's superblock
RUN = OVERFLOW
MAGIC = b"FXG2"
_INDEX = struct.Struct("<4sIIIQQ")  # magic, records, bytes of keys, zero, checksum of the group before, own checksum
_OWN = _INDEX.size - 8
_ENTRY = np.dtype([("key", "<u4"), ("length", "<u4"), ("checksum", "<u8")])


class Group(NamedTuple):
    """One group: ``pages`` and ``entries`` (lengths of key and record, checksum) of its records, in their order.

    The index run begins at page ``first``, the next group at page ``end``.
    """

    first: int
    end: int
    checksum: int
    keys: list[bytes]
    pages: Array
    entries: Array


def pages_of(length: Any) -> Any:
    """How many pages a run has that holds a value of ``length`` bytes."""
    return (PAGE_HEADER.size + length + PAGE - 1) // PAGE


def pack_group(group: Mapping[bytes, Bytes], first: int, before: int) -> tuple[Group, list[Bytes]]:
    """A group for page ``first``, behind the group with checksum ``before``: what it is, and its bytes in pieces."""
    entries = np.empty(len(group), _ENTRY)
    entries["key"] = [len(key) for key in group]
    entries["length"] = [len(record) for record in group.values()]
    entries["checksum"] = [peek(record, key).checksum for key, record in group.items()]
    keys = b"".join(group)
    index_length = _INDEX.size + entries.nbytes + len(keys)
    pages, end = _places(entries, first + pages_of(index_length))
    front = _INDEX.pack(MAGIC, len(group), len(keys), 0, before, 0)[:_OWN]
    own = _sum(front, entries.tobytes() + keys)
    index = front + own.to_bytes(8, "little") + entries.tobytes() + keys
    pieces: list[Bytes] = []
    for page, value in zip([first, *pages.tolist()], [index, *group.values()], strict=True):
        length = PAGE_HEADER.size + len(value)
        pieces += [PAGE_HEADER.pack(page, 0, RUN, pages_of(len(value))), value, bytes(-length % PAGE)]
    return Group(first, end, own, list(group), pages, entries), pieces


def read_group(handle: int, first: int, size: int, before: int | None) -> Group | None:
    """The group whose index run begins at page ``first`` of a file of ``size`` bytes, with all its records.

    None unless the index is whole, follows on the group with checksum ``before`` (None: on any) and the file has room
    for its records, whose bytes are not looked at.
    """
    head = os.pread(handle, PAGE_HEADER.size + _INDEX.size, first * PAGE)
    if len(head) < PAGE_HEADER.size + _INDEX.size:
        return None
    number, zero, flags, run = PAGE_HEADER.unpack_from(head)
    magic, count, key_bytes, nothing, chained, own = _INDEX.unpack_from(head, PAGE_HEADER.size)
    length = count * _ENTRY.itemsize + key_bytes
    if (number, zero, flags, magic, nothing) != (first, 0, RUN, MAGIC, 0) or before not in (None, chained):
        return None
    if not count or run != pages_of(_INDEX.size + length) or (first + run) * PAGE > size:
        return None
    body = os.pread(handle, length, first * PAGE + len(head))
    if _sum(head[PAGE_HEADER.size :][:_OWN], body) != own:
        return None
    entries = np.frombuffer(body, _ENTRY, count)
    ends = np.cumsum(entries["key"], dtype=np.int64) + count * _ENTRY.itemsize
    pages, end = _places(entries, first + run)
    if ends[-1] != length or end * PAGE > size:
        return None
    keys = [body[a:b] for a, b in pairwise([count * _ENTRY.itemsize, *ends.tolist()])]
    return Group(first, end, own, keys, pages, entries)


def groups(handle: int, size: int) -> Iterator[Group]:
    """The groups from the beginning on, up to the first that is none."""
    first, before = FIRST, 0
    while group := read_group(handle, first, size, before):
        yield group
        first, before = group.end, group.checksum


def is_whole(handle: int, group: Group) -> bool:
    """Whether every record of the group has its checksum."""
    for key, page, entry in zip(group.keys, group.pages.tolist(), group.entries, strict=True):
        try:
            record = value_at(handle, page, int(entry["length"]))
            if not checksum(record, key) == peek(record, key).checksum == entry["checksum"]:
                return False
        except FeatxError:
            return False
    return True


def value_at(handle: int, page: int, length: int) -> bytes:
    """The first ``length`` bytes of the value in the run that begins at ``page``."""
    return os.pread(handle, length, page * PAGE + PAGE_HEADER.size)


def _places(entries: Array, first: int) -> tuple[Array, int]:
    """The page on which each record's run begins, the first of them ``first``, and the page behind the last."""
    ends = first + np.cumsum(pages_of(entries["length"].astype(np.int64)))
    return np.concatenate(([first], ends[:-1])), int(ends[-1])


def _sum(front: bytes, body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(front + body)
