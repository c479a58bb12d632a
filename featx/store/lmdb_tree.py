"""The B+tree of a sealed LMDB file, read where it is mapped, in plain Python (``csrc/store/tree.cpp`` is its twin).

LMDB itself believes what a file says, and a damaged file kills the process. Here every page and every node is checked
against the bounds of the map before it is followed, and no walk is longer than a tree can be deep: whatever bytes the
file holds, a key is found, is not there, or the file is damaged.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featx.schema import Array
from featx.store.lmdb_file import damaged, read_meta
from featx.store.lmdb_format import BIG_DATA, BRANCH, KINDS, LEAF, NO_PAGE, NUMBER, OVERFLOW
from featx.store.native import reader

_DEEPEST = 32  # levels; as LMDB's own cursors
_PAGE = struct.Struct("<Q2xHH2x")  # number, flags, end of the table of nodes
_OWN = struct.Struct("<Q2xHI")  # number, flags, pages of a value
_NODE = struct.Struct(
    "<IHH"
)  # size of the value (of a branch: low part of the page), flags (high part), size of the key


class Value(NamedTuple):
    """Where a value lies in the file, bytes."""

    offset: int
    size: int


class _Page(NamedTuple):
    offset: int
    nodes: tuple[int, ...]  # from the beginning of the page
    leaf: bool


class Damaged(Exception):
    """A page or node that cannot be followed; the caller knows the file and what was asked."""


class Tree:
    """The keys of one sealed file.

    whole: the mapped file, uint8. meta: its newer meta page; see :func:`featx.store.lmdb_file.read_meta`.
    """

    def __init__(self, path: Path) -> None:
        meta = read_meta(path)
        if meta is None:
            raise damaged(path, "it is empty")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(mapped) < meta.used:
            raise damaged(path, f"it has {len(mapped)} bytes, its pages make {meta.used}")
        self.path, self.meta = path, meta
        self.whole: Array = np.frombuffer(mapped, np.uint8)
        self.view = memoryview(mapped)

    def find(self, key: bytes) -> Value | None:
        """Where the value of ``key`` is, None when there is none. Raises StoreDamaged."""
        native = reader().module
        try:
            if native is None:
                return self._find(key)
            found, offset, size, _ = native.find(
                self.view, self.meta.page_size, self.meta.last_page, self.meta.root, key
            )
            if found == 2:
                raise Damaged
        except Damaged:
            raise damaged(self.path, f"its tree cannot be followed to {key.decode(errors='replace')!r}") from None
        return Value(offset, size) if found == 0 else None

    def items(self, after: bytes = b"") -> Iterator[tuple[bytes, Value]]:
        """The keys behind ``after`` in order, with the places of their values. Raises StoreDamaged."""
        waiting = [] if self.meta.root == NO_PAGE else [self.meta.root]
        last, left = after, self.meta.tree_pages
        try:
            while waiting:
                if left == 0:
                    raise Damaged
                left -= 1
                page = self._page(waiting.pop())
                first = self._bisect(page, after)[0] + page.leaf if after and last == after else 0
                if not page.leaf:
                    waiting += [self._child(page, place) for place in reversed(range(first, len(page.nodes)))]
                    continue
                for place in range(first, len(page.nodes)):
                    key = self._key(page, place)
                    if key <= last:
                        raise Damaged
                    last = key
                    yield key, self._value(page, place)
        except Damaged:
            raise damaged(self.path, "its tree cannot be followed from its first key to its last") from None

    def _find(self, key: bytes) -> Value | None:
        number = self.meta.root
        if number == NO_PAGE:
            return None
        for _ in range(_DEEPEST):
            page = self._page(number)
            place, same = self._bisect(page, key)
            if page.leaf:
                return self._value(page, place) if same else None
            number = self._child(page, place)
        raise Damaged

    def _bisect(self, page: _Page, key: bytes) -> tuple[int, bool]:
        """The node of ``key`` in a leaf, or the last before it, and whether it is that of ``key``.

        Of a branch, the node below which the key must be; the first stands for all that is smaller.
        """
        low, high = int(not page.leaf), len(page.nodes)
        while low < high:
            middle = (low + high) // 2
            found = self._key(page, middle)
            if found == key and page.leaf:
                return middle, True
            low, high = (middle + 1, high) if found <= key else (low, middle)
        return low - 1, False

    def _page(self, number: int) -> _Page:
        size = self.meta.page_size
        offset = self._inside(number)
        found, flags, lower = _PAGE.unpack_from(self.view, offset)
        kind = flags & KINDS
        if found != number or kind not in (BRANCH, LEAF) or not _PAGE.size < lower <= size or lower % 2:
            raise Damaged
        count = (lower - _PAGE.size) // 2
        return _Page(offset, struct.unpack_from(f"<{count}H", self.view, offset + _PAGE.size), kind == LEAF)

    def _inside(self, number: int) -> int:
        if not 2 <= number <= self.meta.last_page:
            raise Damaged
        return number * self.meta.page_size

    def _node(self, page: _Page, place: int) -> tuple[int, int, int, int]:
        """Where the key begins and ends in the file, the size of the value, and the flags."""
        at, least = page.nodes[place], _PAGE.size + 2 * len(page.nodes)
        if at % 2 or not least <= at <= self.meta.page_size - _NODE.size:
            raise Damaged
        size, flags, length = _NODE.unpack_from(self.view, page.offset + at)
        if at + _NODE.size + length > self.meta.page_size:
            raise Damaged
        start = page.offset + at + _NODE.size
        return start, start + length, size, flags

    def _key(self, page: _Page, place: int) -> bytes:
        start, end, _, _ = self._node(page, place)
        return bytes(self.view[start:end])

    def _child(self, page: _Page, place: int) -> int:
        _, _, low, high = self._node(page, place)
        return low | high << 32

    def _value(self, page: _Page, place: int) -> Value:
        _, end, size, flags = self._node(page, place)
        behind = page.offset + self.meta.page_size
        if flags == 0:
            if end + size > behind:
                raise Damaged
            return Value(end, size)
        if flags != BIG_DATA or end + NUMBER.size > behind:
            raise Damaged
        (number,) = NUMBER.unpack_from(self.view, end)
        offset = self._inside(number)
        found, kind, pages = _OWN.unpack_from(self.view, offset)
        room = min(pages, self.meta.last_page + 1 - number) * self.meta.page_size
        if found != number or kind & KINDS != OVERFLOW or room < pages * self.meta.page_size or pages < 1:
            raise Damaged
        if _OWN.size + size > room:
            raise Damaged
        return Value(offset + _OWN.size, size)
