"""As much of LMDB's file format as it takes to trust a file before it is mapped.

Reading behind the end of a mapped file kills the process with SIGBUS, no exception. So the meta pages are read here
first, by ordinary reads, and the file must reach as far as the newer one says; and the pages of the tree of a sealed
file are hashed, so that a change is found before a key is said to be missing. Values have pages of their own (see
``lmdb_store``), so the tree is small: about 50 bytes per record.

Layout: the 64 bit little-endian format of LMDB 0.9 (data version 1).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from featx.errors import StoreDamaged
from featx.store.lmdb_format import BRANCH, MAGIC, NO_PAGE, ORDERS, PAGE_HEADER, VERSION

# Page header, magic, version, address, map size, free db (its first number is the page size), main db (its flags, its
# numbers of branch and leaf pages and of entries, its root), last page, commit.
_META = struct.Struct("<16x II 16x I44x 4xH2x QQ 8x QQ QQ")
_PAGE_SIZES = {1 << n for n in range(9, 16)}


class Meta(NamedTuple):
    """What a meta page says."""

    page_size: int
    tree_pages: int
    entries: int
    root: int
    last_page: int
    commit: int

    @property
    def used(self) -> int:
        """Length of the part of the file that is in use, bytes."""
        return (self.last_page + 1) * self.page_size


def read_meta(path: Path) -> Meta | None:
    """The newer meta page; None for a file in which nothing was ever committed.

    Raises StoreDamaged for a file that is not LMDB's or that ends before its last page.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        page = file.read(_META.size)
        if not page:
            return None
        first = _parse(path, page)
        file.seek(first.page_size)
        second = _parse(path, file.read(_META.size))
        size = os.fstat(file.fileno()).st_size  # after the metas: a writer may make the file grow meanwhile
    if second.page_size != first.page_size:
        raise damaged(path, "its two meta pages do not agree")
    meta = max(first, second, key=lambda m: m.commit)
    if meta.used > size:
        raise damaged(path, f"it has {size} bytes, its {meta.last_page + 1} pages make {meta.used}")
    return meta


def frame(path: Path) -> str:
    """Hash of the meta pages and of every page of the tree, depth first: xxh3_128, hexadecimal."""
    meta = read_meta(path)
    if meta is None:
        raise damaged(path, "it is empty")
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        state.update(file.read(2 * meta.page_size))
        waiting = [meta.root] if meta.root != NO_PAGE else []
        for _ in range(meta.tree_pages):
            if not waiting:
                break
            number = waiting.pop()
            if not 2 <= number <= meta.last_page:
                raise damaged(path, f"its tree leads to page {number}, the last is {meta.last_page}")
            page = os.pread(file.fileno(), meta.page_size, number * meta.page_size)
            state.update(page)
            waiting += reversed(list(_children(path, page)))
    if waiting:
        raise damaged(path, f"its tree has more than {meta.tree_pages} pages")
    return state.hexdigest()


def _children(path: Path, page: bytes) -> Iterator[int]:
    """Page numbers below a branch page; none below a leaf."""
    flags, lower = struct.unpack_from("<HH", page, 10)
    if not flags & BRANCH:
        return
    count = (min(lower, len(page)) - PAGE_HEADER.size) // 2
    for place in np.frombuffer(page, "<u2", max(count, 0), PAGE_HEADER.size).tolist():
        if place + 6 > len(page):
            raise damaged(path, f"a branch page has a node at {place}")
        low, middle, high = struct.unpack_from("<HHH", page, place)
        yield low | middle << 16 | high << 32


def _parse(path: Path, page: bytes) -> Meta:
    if len(page) < _META.size:
        raise damaged(path, f"it ends after {len(page)} bytes, within a meta page")
    magic, version, page_size, flags, branches, leaves, entries, root, last_page, commit = _META.unpack(page)
    if (magic, version) != (MAGIC, VERSION) or page_size not in _PAGE_SIZES:
        raise damaged(path, f"a meta page has magic {magic:#x}, version {version}, page size {page_size}")
    if flags & ORDERS:
        raise damaged(path, f"its keys are ordered by the flags {flags:#x}, expected 0")
    return Meta(page_size, branches + leaves, entries, root, last_page, commit)


def damaged(path: Path, what: str) -> StoreDamaged:
    """The error for a file that is not as it was written."""
    return StoreDamaged(
        f"{path} is damaged: {what}", f"delete {path.parent} and run the extraction again: it makes only that part"
    )
