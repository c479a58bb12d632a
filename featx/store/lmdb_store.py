"""LMDB backend: a part is written as a log (``log``) and becomes an LMDB file when it is finished (``lmdb_pages``).

Every record has pages of its own, where it is aligned to 16 bytes, and the tree holds keys only: small, and hashed as
a whole when a file is sealed. A finished file is read by a walker of our own (``lmdb_sealed``), not by LMDB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from featx.errors import StoreDamaged, StoreError
from featx.schema import Schema
from featx.store import disk, log
from featx.store.base import Bytes, Log, Sealed, Shard
from featx.store.lmdb_file import read_meta
from featx.store.lmdb_pages import free_tree, meta_pages, value_tree
from featx.store.lmdb_sealed import SealedShard
from featx.store.log import RecordLog
from featx.store.log_group import PAGE, groups
from featx.store.log_shard import LogShard

FILE = "records.lmdb"


def open_shards(folder: Path, schema: Schema, *, sealed: bool) -> list[Shard]:
    """The one file of the part, if anything was committed to it."""
    path = folder / FILE
    with suppress(FileNotFoundError):
        if not sealed:
            return [LogShard(folder / log.FILE, schema)]
    meta = read_meta(path)
    if not meta:
        return []
    if sealed or meta.page_size == PAGE:  # only a part of format 1 is written as LMDB
        return [SealedShard(path, schema)]
    from featx.store.format_1 import LmdbShard

    return [LmdbShard(path, schema)]


def open_log(folder: Path, schema: Schema) -> LmdbLog:
    """The part for appending."""
    return LmdbLog(folder, schema)


def structure(folder: Path, schema: Schema) -> Iterator[tuple[Path, str]]:
    """Problems of the B-trees, from a walk by ordinary reads. py-lmdb before 3.0 cannot do it; then there are none."""
    try:
        walker = import_module("lmdb.verify")
    except ModuleNotFoundError:
        return
    for path in sorted(folder.glob("*.lmdb")):
        try:
            yield from ((path, problem) for problem in walker.verify(path, subdir=False))
        except walker.VerifyError as error:
            yield path, str(error)


class LmdbLog(Log):
    """Appends groups to ``records.log``, and makes an LMDB file of it."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.path, self._schema = folder / FILE, schema
        if self.path.exists():
            _unseal(self.path, folder / log.FILE)
        self._log: RecordLog | None = RecordLog(folder / log.FILE)

    def __contains__(self, key: object) -> bool:
        return key in self._opened

    def append(self, group: Mapping[bytes, Bytes]) -> None:
        self._opened.append(group)

    def seal(self) -> Sealed:
        opened = self._opened
        checksums: list[tuple[bytes, int]] = []
        unused: list[int] = []
        for group in opened.groups():
            checksums += list(zip(group.keys, group.entries["checksum"].tolist(), strict=True))
            unused += range(group.first, int(group.pages[0]))
        places = sorted(opened.index.places.items())
        main = value_tree([(key, place >> 32, place % 2**32) for key, place in places], opened.index.end)
        free = free_tree(unused, opened.index.end + len(main.pages))
        tree = b"".join((*main.pages, *free.pages))
        metas = meta_pages(free, main, opened.index.end + len(tree) // PAGE - 1)
        hashed = opened.seal(self.path, metas, [tree])
        self._log = None
        return Sealed({FILE: hashed}, checksums, [SealedShard(self.path, self._schema)])

    def close(self) -> None:
        self._log = None

    @property
    def _opened(self) -> RecordLog:
        if self._log is None:
            raise StoreError(f"{self.path.with_name(log.FILE)} was closed", "open the part again")
        return self._log


def _unseal(path: Path, target: Path) -> None:
    """Take a sealed file as the log that it was. Raises StoreDamaged for one that was written to since."""
    if target.exists():
        raise StoreDamaged(f"{path.parent} has both {path.name} and {target.name}", "remove the one that is a copy")
    meta = read_meta(path)
    said = meta.entries if meta else -1
    with path.open("rb", buffering=0) as file:
        found = sum(len(group.keys) for group in groups(file.fileno(), os.fstat(file.fileno()).st_size))
    if found != said:
        raise StoreDamaged(
            f"{path} was changed by another program: it has {said} records, {found} of them as featx wrote them",
            "restore the file from a copy, or delete the folder of the part and run the extraction again",
        )
    disk.move(path, target)
