"""As much of LMDB's file format as it takes to trust a file before it is mapped.

LMDB maps its file and believes it: a file that ends early kills the process with SIGBUS, no exception.
So the two meta pages are read here first, by ordinary reads, and the file must reach as far as the newer
one says. Layout: the 64 bit little-endian format of LMDB 0.9 (data version 1).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from featx.errors import StoreDamaged

MAGIC = 0xBEEFC0DE
# A node offset in a leaf is 16 bits wide. With this many zeros behind the last page even a damaged
# offset stays within the file.
TAIL = 1 << 16
_META = struct.Struct("<16xII8xQ I44x 48x QQ")  # page header, magic, version, map size, free db, main db
_PLAUSIBLE_PAGES = {1 << n for n in range(9, 16)}


class Meta(NamedTuple):
    """What a meta page says: page size, number of the last page in use, number of the commit."""

    page_size: int
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
        raise _damaged(path, "its two meta pages do not agree")
    meta = max(first, second, key=lambda m: m.commit)
    if meta.used > size:
        raise _damaged(path, f"it has {size} bytes, its {meta.last_page + 1} pages make {meta.used}")
    return meta


def _parse(path: Path, page: bytes) -> Meta:
    if len(page) < _META.size:
        raise _damaged(path, f"it ends after {len(page)} bytes, within a meta page")
    magic, version, _, page_size, last_page, commit = _META.unpack(page)
    if (magic, version) != (MAGIC, 1) or page_size not in _PLAUSIBLE_PAGES:
        raise _damaged(path, f"a meta page has magic {magic:#x}, version {version}, page size {page_size}")
    return Meta(page_size, last_page, commit)


def _damaged(path: Path, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged: {what}", f"delete {path.parent} and run the extraction again: it makes only that part"
    )
