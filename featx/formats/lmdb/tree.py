"""A foreign LMDB file by ordinary, bounds-checked reads: it is never mapped, so no byte of it can end the process.

LMDB itself maps a file and believes it; one that was cut, as copies of the sparse 1 TiB files that peers write often
are, ends the process with SIGBUS. Here every page number, offset and length is checked before it is followed, what
cannot be followed is told with its place, and reading goes on behind it. Leaves that no branch reaches any more are
found by looking at every page.

Layout: the 64 bit little-endian format of LMDB 0.9, mdb.c: struct MDB_page, MDB_node, MDB_db, MDB_meta.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from featx.errors import StoreDamaged, StoreError

MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # of a page
_BIG = 1  # of a node: its value has pages of its own
_HEADER = struct.Struct("<QHHHH")  # page number, -, flags, lower, upper (or the number of overflow pages)
_NODE = struct.Struct("<HHHH")  # lower and upper half of a size, flags (or third part of a page number), key size
_DB = struct.Struct("<IHHQQQQQ")  # -, flags, depth, branches, leaves, overflow pages, entries, root
_META_AT = _HEADER.size
_META_SIZE = 152
_NO_PAGE = 2**64 - 1
_PAGE_SIZES = {1 << n for n in range(8, 16)}
_DEEPEST = 32  # levels; LMDB's own limit


class Place(NamedTuple):
    """Where the value of a key lies: its offset in the file and its length, bytes."""

    key: bytes
    offset: int
    size: int


class Fault(NamedTuple):
    """Something that cannot be followed, with its offset in the file."""

    offset: int
    problem: str


class _Broken(Exception):
    """A page or node that is not what it has to be."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.fault = Fault(offset, problem)


class _Tree(NamedTuple):
    flags: int
    entries: int
    root: int


class _Page(NamedTuple):
    """A page of the tree: whether it is a leaf, its keys, and of each key the page below or the place of its value."""

    leaf: bool
    keys: list[bytes]
    below: list[int]
    places: list[Place]
    faults: list[Fault]


def _near(page: _Page, key: bytes) -> Iterator[Place]:
    """The places of a leaf, the likely one first: a damaged leaf may be out of order."""
    likely = bisect_right(page.keys, key) - 1
    yield from page.places[max(likely, 0) :]
    yield from page.places[: max(likely, 0)]


def data_file(path: Path) -> Path:
    """The file of an environment, which is a folder with ``data.mdb`` or the file itself."""
    return path / "data.mdb" if path.is_dir() else path


def is_lmdb(path: Path) -> bool:
    """Whether the file, or the ``data.mdb`` of the folder, begins as LMDB's do."""
    try:
        with data_file(path).open("rb") as file:
            head = file.read(_META_AT + 4)
    except OSError:
        return False
    return len(head) == _META_AT + 4 and head[_META_AT:] == MAGIC.to_bytes(4, "little")


class LmdbTree:
    """The entries of one LMDB file, read-only. Raises StoreDamaged for a file whose meta pages are not readable."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = data_file(Path(path))
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}", "give an LMDB file or folder") from None
        self.length = os.fstat(self._file.fileno()).st_size
        try:
            self.page_size, self._free, self._main, self.last_page = self._metas()
            if self._main.flags:
                raise self._damaged(f"its keys have the LMDB flags {self._main.flags:#x}; featx reads plain ones")
        except BaseException:
            self.close()
            raise
        self._page = lru_cache(256)(self._read_page)

    @property
    def entries(self) -> int:
        """Number of entries as the file states it."""
        return self._main.entries

    @property
    def cut(self) -> str:
        """What is wrong with the length of the file; '' when nothing is."""
        needed = (self.last_page + 1) * self.page_size
        return f"it has {self.length} bytes, its {self.last_page + 1} pages make {needed}" * (needed > self.length)

    def find(self, key: bytes) -> Place | None:
        """The place of a key's value. Raises StoreDamaged when a page on the way cannot be read."""
        number = self._main.root
        try:
            for _ in range(_DEEPEST):
                if number == _NO_PAGE:
                    return None
                page = self._page(number)
                if page.leaf:
                    return next((place for place in _near(page, key) if place.key == key), None)
                # The first key of a branch page is empty: it stands for everything below the second.
                number = page.below[max(bisect_right(page.keys, key) - 1, 0)] if page.below else _NO_PAGE
        except _Broken as broken:
            raise self._damaged(f"byte {broken.fault.offset}: {broken}") from None
        raise self._damaged(f"its tree is more than {_DEEPEST} levels deep")

    def walk(self, *, recover: bool = False) -> Iterator[Place | Fault]:
        """All places in ascending order of their keys, and what cannot be followed.

        After a fault, leaves that the tree does not reach are looked for among all pages, if nothing was ever
        freed in the file. ``recover`` looks for them in any case: an old leaf may lead to a page that holds the value
        of another key by now, so the caller must be able to see from a value whose it is.
        """
        seen: set[int] = set()
        faulty = False
        for found in self._descend(self._main.root, 0, seen):
            faulty |= isinstance(found, Fault)
            yield found
        if faulty and (recover or not self._free.entries):
            yield from self._orphans(seen)

    def value(self, place: Place) -> bytes:
        """The bytes at a place. Raises StoreDamaged when the file does not have them, or has another value there."""
        if place.offset + place.size > self.length:
            raise self._damaged(f"{place.size} bytes from {place.offset} on reach beyond its {self.length} bytes")
        number, within = divmod(place.offset, self.page_size)
        if within == _HEADER.size:  # pages of its own: within a leaf a value begins further on
            own, _, flags, low, high = _HEADER.unpack(self._read(number * self.page_size, _HEADER.size))
            if own != number or not flags & _OVERFLOW or (low | high << 16) * self.page_size < within + place.size:
                raise self._damaged(f"page {number} does not begin a value of {place.size} bytes")
        return self._read(place.offset, place.size)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> LmdbTree:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _descend(self, number: int, depth: int, seen: set[int]) -> Iterator[Place | Fault]:
        if number == _NO_PAGE:
            return
        if number in seen or depth > _DEEPEST:
            yield Fault(number * self.page_size, f"the tree comes to page {number} twice")
            return
        seen.add(number)
        try:
            page = self._page(number)
        except _Broken as broken:
            seen.discard(number)
            yield broken.fault
            return
        yield from page.faults
        yield from page.places
        for below in page.below:
            yield from self._descend(below, depth + 1, seen)

    def _orphans(self, seen: set[int]) -> Iterator[Place | Fault]:
        """Entries of the leaves that are not in ``seen``, by the order of the pages; a key that was met stays."""
        met = {key for number in seen for key in self._page(number).keys if self._page(number).leaf}
        number = 2
        while (number + 1) * self.page_size <= self.length:
            own, _, flags, lower, upper = _HEADER.unpack(self._read(number * self.page_size, _HEADER.size))
            if own == number and flags & 0xFF == _LEAF and number not in seen:
                try:
                    places = self._page(number).places  # keys with zeros: leaves of the list of free pages
                    fresh = [place for place in places if place.key not in met and b"\0" not in place.key]
                except _Broken:
                    fresh = []
                met.update(place.key for place in fresh)
                yield from fresh
            overflow = own == number and flags & 0xFF == _OVERFLOW
            number += max(lower | upper << 16, 1) if overflow else 1

    def _read_page(self, number: int) -> _Page:
        start = number * self.page_size
        if not 2 <= number <= self.last_page:
            raise _Broken(start, f"the tree leads to page {number}, the last is {self.last_page}")
        if start + self.page_size > self.length:
            raise _Broken(start, f"page {number} begins at byte {start}, the file has {self.length}")
        page = self._read(start, self.page_size)
        own, _, flags, lower, _ = _HEADER.unpack_from(page)
        kind = flags & 0xFF & ~0x10  # the dirty bit says nothing here
        if own != number or kind not in (_BRANCH, _LEAF) or not _HEADER.size <= lower <= self.page_size:
            raise _Broken(start, f"page {number} has number {own}, flags {flags:#x}, {lower} bytes in use")
        parsed = _Page(kind == _LEAF, [], [], [], [])
        for at in struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", page, _HEADER.size):
            try:
                self._node(page, start, at, parsed)
            except (struct.error, _Broken) as error:
                fault = error.fault if isinstance(error, _Broken) else Fault(start + at, "a node leaves its page")
                parsed.faults.append(fault)
        return parsed

    def _node(self, page: bytes, start: int, at: int, parsed: _Page) -> None:
        low, high, third, key_size = _NODE.unpack_from(page, at)
        data = at + _NODE.size + key_size
        if at < _HEADER.size or data > len(page):
            raise _Broken(start + at, f"a node has a key of {key_size} bytes and leaves its page")
        key = page[at + _NODE.size : data]
        if not parsed.leaf:
            parsed.below.append(low | high << 16 | third << 32)
        else:
            size = low | high << 16
            offset = self._overflow(page, start, data, key) if third & _BIG else start + data
            if third & ~_BIG or (not third and data + size > len(page)):
                raise _Broken(start + at, f"the node of {key[:80]!r} has flags {third:#x} and {size} bytes")
            parsed.places.append(Place(key, offset, size))
        parsed.keys.append(key)

    def _overflow(self, page: bytes, start: int, data: int, key: bytes) -> int:
        """Offset of a value that has pages of its own."""
        (number,) = struct.unpack_from("<Q", page, data)
        if not 2 <= number <= self.last_page:
            raise _Broken(start + data, f"{key[:80]!r} leads to page {number}, the last is {self.last_page}")
        return int(number * self.page_size + _HEADER.size)

    def _metas(self) -> tuple[int, _Tree, _Tree, int]:
        """Page size, tree of the free pages, main tree and last page, by the newer of the readable meta pages."""
        sizes = [self._meta_page_size(0)] if self._meta_page_size(0) else sorted(_PAGE_SIZES)
        found = [meta for size in sizes for at in (0, size) if (meta := self._meta(at, size))]
        if not found:
            raise self._damaged(f"none of its meta pages is one of LMDB 0.9 (it has {self.length} bytes)")
        return max(found, key=lambda meta: meta[0])[1]

    def _meta_page_size(self, at: int) -> int:
        head = self._read(at + _META_AT, 28)
        if len(head) < 28 or struct.unpack_from("<II", head) != (MAGIC, 1):
            return 0
        (size,) = struct.unpack_from("<I", head, 24)  # first number of the free tree
        return size if size in _PAGE_SIZES else 0

    def _meta(self, at: int, page_size: int) -> tuple[int, tuple[int, _Tree, _Tree, int]] | None:
        """Transaction and content of a meta page, None when it is none of this page size."""
        page = self._read(at, _META_SIZE)
        if len(page) < _META_SIZE or self._meta_page_size(at) != page_size:
            return None
        (free, main), (last, commit) = (_DB.iter_unpack(page[40:136]), struct.unpack_from("<QQ", page, 136))
        trees = [_Tree(db[1] & 0x7FFF, db[6], db[7]) for db in (free, main)]
        return commit, (page_size, trees[0], trees[1], last)

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def _damaged(self, what: str) -> StoreDamaged:
        return StoreDamaged(f"{self.path} is damaged: {what}", "make a new copy of the file, if its source still is")
