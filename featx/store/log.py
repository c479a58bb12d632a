"""``records.log``: an open part, whatever its backend. Groups of records, appended and never changed.

The file is laid out as the pages of an LMDB file, so that sealing one (``lmdb_pages``, ``hdf5_appendix``) adds what its
readers need and moves nothing. One write and one sync make a commit. Only the last group can be torn, because a group
is not begun before the one before is durable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from featx.codec import text
from featx.errors import StoreError, UsageError
from featx.store import disk
from featx.store.base import Bytes
from featx.store.log_group import FIRST, PAGE, Group, groups, pack_group
from featx.store.log_index import Index
from featx.store.manifest import TAIL, file_hash

FILE = "records.log"


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


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 2**63
