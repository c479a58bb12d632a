"""``records.log``: an open part, whatever its backend. Groups of records, appended and never changed.

The file is laid out as the pages of an LMDB file, so that sealing one (``lmdb_pages``, ``hdf5_tail``) adds what its
readers need and moves nothing.
A group is an *index run*, which says which records follow, and one run of pages for each record. One write and one
sync make a commit. The index has a checksum of its own which takes in that of the group before: a group is
whole when its index is, when it follows on the group before, and when its records have their checksums. Only
the last group can be torn, because a group is not begun before the one before is durable.

Readers never map an open part: it may be cut at any moment.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from featx.codec import Header, checksum, examine, peek, text
from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.schema import Array, Schema
from featx.store import disk
from featx.store.base import Bytes, Shard
from featx.store.lmdb_format import OVERFLOW
from featx.store.lmdb_format import PAGE_HEADER as PAGE_HEADER
from featx.store.manifest import TAIL, file_hash

FILE = "records.log"
PAGE = 2048
FIRST = 2  # pages 0 and 1 are left to LMDB's meta pages, or HDF5's superblock
RUN = OVERFLOW
MAGIC = b"FXG2"
_INDEX = struct.Struct("<4sIIIQQ")  # magic, records, bytes of keys, zero, checksum of the group before, own checksum
_OWN = _INDEX.size - 8
_ENTRY = np.dtype([("key", "<u4"), ("length", "<u4"), ("checksum", "<u8")])
_SCAN = 512  # pages looked through at a time
_AGAIN = "delete the folder of the part and run the extraction again: it makes only that part"


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


class Index:
    """Where the records of the whole groups of a log are.

    places: by key, the page on which a record's run begins times 2**32 plus the record's length.
    end: the page behind the last whole group; checksum: that of the group.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clear()

    def _clear(self) -> None:
        self.places: dict[bytes, int] = {}
        self.end, self.checksum = FIRST, 0
        self._last = 0  # the page on which the last group begins
        self._seen = -1

    def follow(self, handle: int) -> None:
        """Take up the whole groups that came since. Raises StoreDamaged for one that is not, and is not the last."""
        size = os.fstat(handle).st_size
        if self._last and not self._is_there(handle, size):
            self._clear()  # a writer whose sync failed cut off what had been seen
        if size == self._seen:
            return
        last = None
        first, before = self.end, self.checksum
        while group := read_group(handle, first, size, before):
            if last is not None:
                self.add(last)
            last, first, before = group, group.end, group.checksum
        if last is not None and _is_whole(handle, last):
            self.add(last)
        self._refuse_a_gap(handle, size)
        self._seen = size

    def add(self, group: Group) -> None:
        """Take up a whole group."""
        places = (group.pages << 32) + group.entries["length"]
        twice = next((key for key in group.keys if key in self.places), None)
        if twice is not None or len(set(group.keys)) < len(group.keys):
            raise self._damaged(group.first, f"it holds {text(twice or b'a key')!r} again")
        self.places.update(zip(group.keys, places.tolist(), strict=True))
        self._last, self.end, self.checksum = group.first, group.end, group.checksum

    def _is_there(self, handle: int, size: int) -> bool:
        """Whether the last group is what it was."""
        group = read_group(handle, self._last, size, None)
        return group is not None and group.checksum == self.checksum

    def _refuse_a_gap(self, handle: int, size: int) -> None:
        """A torn group is the last one. One that is followed by another was durable once: it is damaged."""
        for start in range(self.end, size // PAGE, _SCAN):
            block = os.pread(handle, _SCAN * PAGE, start * PAGE)
            pages = np.frombuffer(block[: len(block) // PAGE * PAGE], np.uint8).reshape(-1, PAGE)
            heads = pages[:, : PAGE_HEADER.size + 4]
            for place in np.flatnonzero((heads[:, -4:] == np.frombuffer(MAGIC, np.uint8)).all(1)).tolist():
                if start + place > self.end and read_group(handle, start + place, size, None):
                    raise self._damaged(self.end, f"it cannot be read, but the one at page {start + place} can")

    def _damaged(self, page: int, what: str) -> StoreDamaged:
        return StoreDamaged(
            f"{self.path} is damaged in the group at page {page}: {what}",
            _AGAIN,
        )


class LogShard(Shard):
    """Reads the whole groups of an open part, and follows its writer."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema, self.frame = path, schema, ""
        self._index = Index(path)
        self._lock = threading.Lock()  # threads may share a reader
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._follow()

    def _follow(self) -> dict[bytes, int]:
        with self._lock:
            self._index.follow(self._handle)
            return self._index.places

    @property
    def _handle(self) -> int:
        if self._file < 0:
            raise StoreError(f"{self.path} was closed", "open the store again")
        return self._file

    def __len__(self) -> int:
        return len(self._follow())

    def __contains__(self, key: object) -> bool:
        return key in self._index.places or key in self._follow()

    def get(self, key: bytes) -> bytes | None:
        record = self._read(key)
        if record is not None:
            examine(record, self.schema, key)
        return record

    def read_into(self, memory: bytearray, keys: Sequence[bytes]) -> Iterator[tuple[bytes, memoryview]]:
        """Records of the first of ``keys``, as many as ``memory`` has room for but at least one, unverified."""
        view, used = memoryview(memory), 0
        for key in keys:
            place = self._index.places[key]
            length = place % 2**32
            if used + length > len(view):
                if used:
                    return
                view = memoryview(bytearray(length))
            room = view[used : used + length]
            if os.preadv(self._handle, [room], (place >> 32) * PAGE + PAGE_HEADER.size) != length:
                raise StoreDamaged(f"{self.path} ends within record {text(key)!r}", _AGAIN)
            yield key, room
            used += length

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._follow()))

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        return ((key, peek(self._read(key, 64) or b"", key)) for key in self)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close

    def _read(self, key: bytes, most: int = 2**32) -> bytes | None:
        place = self._index.places.get(key) or self._follow().get(key)
        return None if place is None else _value(self._handle, place >> 32, min(place % 2**32, most))


class RecordLog:
    """Appends groups to ``records.log``.

    hash: the running xxh3_128 of everything behind the first two pages, None where an earlier writer wrote some of it,
    and where nobody will want it.
    """

    def __init__(self, path: Path, *, hashed: bool = True) -> None:
        """Open the log; what a crash left behind its last whole group is cut off, and what is kept is durable."""
        self.path = path
        self.index = Index(path)
        self.hash: Any = xxhash.xxh3_128() if hashed else None
        self._broken = False
        if path.exists():
            self._recover()
        else:
            disk.create(path)

    def _recover(self) -> None:
        with self.path.open("rb", buffering=0) as file:
            self.index.follow(file.fileno())
            size = os.fstat(file.fileno()).st_size
            front = os.pread(file.fileno(), FIRST * PAGE, 0)
        if size > self.index.end * PAGE:
            disk.resize(self.path, self.index.end * PAGE)
        if any(front):  # a seal that did not come to its end
            disk.current.write(self.path, [bytes(len(front))], 0)
        disk.sync(self.path)
        if self.index.places:
            self.hash = None

    def __contains__(self, key: object) -> bool:
        return key in self.index.places

    def __len__(self) -> int:
        return len(self.index.places)

    @property
    def size(self) -> int:
        """Bytes up to the end of the last group."""
        return self.index.end * PAGE

    def append(self, group: Mapping[bytes, Bytes]) -> None:
        """Commit a group: durable on return; not there at all when it raises."""
        self.check()
        taken = next((key for key in group if key in self.index.places), None)
        if taken is not None:
            raise UsageError(f"{text(taken)!r} is in the store already", "give every picture one key")
        if not group:
            return
        made, pieces = pack_group(group, self.index.end, self.index.checksum)
        self._broken = True  # until it is known to be whole, or gone
        try:
            disk.extend(self.path, pieces, self.size)
        except OSError as error:
            self._broken = _length(self.path) > self.size
            raise error
        self._broken = False
        self.index.add(made)
        if self.hash is not None:
            for piece in pieces:
                self.hash.update(piece)

    def seal(self, target: Path, front: bytes, behind: Sequence[Bytes]) -> str:
        """Make the file ``target`` of the log: ``front`` for its first pages, ``behind`` behind its groups.

        Nothing else is written again. Returns its hash (``manifest.file_hash``). When it raises the log is still one.
        """
        self.check()
        self._broken = True  # until it is known to be what it was, or renamed
        try:
            disk.current.write(self.path, behind, self.size)
            disk.current.write(self.path, [front], 0)
            disk.sync(self.path)
            disk.rename(self.path, target)
        except BaseException:
            disk.resize(self.path, self.size)
            self._broken = False
            raise
        disk.sync(target.parent)
        return self._whole_hash(front, behind) or file_hash(target, like=TAIL)

    def check(self) -> None:
        """Raise StoreError when nobody knows what is behind the last group, or which name the file has."""
        if self._broken:
            raise StoreError(f"{self.path} could not be written before", "open the part again")

    def _whole_hash(self, front: bytes, behind: Sequence[Bytes]) -> str:
        if self.hash is None:
            return ""
        state = self.hash.copy()
        for piece in (*behind, front):
            state.update(piece)
        return TAIL + str(state.hexdigest())

    def groups(self) -> Iterator[Group]:
        """All groups, read again from the file, one at a time."""
        with self.path.open("rb", buffering=0) as file:
            yield from groups(file.fileno(), self.size)


def _is_whole(handle: int, group: Group) -> bool:
    """Whether every record of the group has its checksum."""
    for key, page, entry in zip(group.keys, group.pages.tolist(), group.entries, strict=True):
        try:
            record = _value(handle, page, int(entry["length"]))
            if not checksum(record, key) == peek(record, key).checksum == entry["checksum"]:
                return False
        except FeatxError:
            return False
    return True


def _value(handle: int, page: int, length: int) -> bytes:
    """The first ``length`` bytes of the value in the run that begins at ``page``."""
    return os.pread(handle, length, page * PAGE + PAGE_HEADER.size)


def _places(entries: Array, first: int) -> tuple[Array, int]:
    """The page on which each record's run begins, the first of them ``first``, and the page behind the last."""
    ends = first + np.cumsum(pages_of(entries["length"].astype(np.int64)))
    return np.concatenate(([first], ends[:-1])), int(ends[-1])


def _sum(front: bytes, body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(front + body)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 2**63
