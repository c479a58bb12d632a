"""Where the records of an open part are: an index in memory of the whole groups of its log."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from featx.codec import text
from featx.errors import StoreDamaged
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.log_group import FIRST, MAGIC, PAGE, Group, is_whole, read_group

REMEDY = "delete the folder of the part and run the extraction again: it makes only that part"
_SCAN = 512  # pages looked through at a time


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
        if last is not None and is_whole(handle, last):
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
            REMEDY,
        )
