"""Several stores of one make as one store: whole parts are copied as files wherever they can be."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from featx.care.compact import volume
from featx.care.copying import check_alike, check_complete, copy_records, copy_refusals, facts, same_content, some, told
from featx.care.folders import copy_part
from featx.care.origin import begin_store, check_outside, digest, refused
from featx.care.part import Part
from featx.codec import store_key
from featx.errors import UsageError
from featx.progress import Tick
from featx.store import Manifest, StoreReader, open_part, open_store
from featx.store.manifest import part_folder

Prefer = Literal["first", "last"]


@dataclass(frozen=True)
class Merged:
    """What :func:`merge` made. copied: parts that were copied as files. twice: keys that several stores had."""

    path: Path
    manifest: Manifest
    copied: int
    twice: int


def merge(
    out: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    prefer: Prefer | None = None,
    backend: str | None = None,
    link: bool = False,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
) -> Merged:
    """Make the store ``out`` of all records of the stores ``sources``, which must be complete and of one make.

    A part none of whose records is left out keeps its files, byte for byte (``link``: as hard links, for stores that
    are only read); of others the records are copied as they are stored. A key that several stores hold is kept once
    when its records are equal; when they differ, ``prefer`` says whose counts. A picture refused by one and recorded by
    another counts as recorded. Killed, the same call goes on. ``begin`` is told how many bytes there are, ``tick`` of
    those that are done. Raises UsageError with every difference of make, the keys whose records differ, and for an
    ``out`` made of anything else or with another ``prefer``.
    """
    paths = [Path(source) for source in sources]
    if len(paths) < 2 or len(set(map(os.path.realpath, paths))) < len(paths):
        raise UsageError("a merge takes two or more different stores, and a new one", "featx merge OUT A B ...")
    check_outside(out, *paths)
    with _opened(paths) as readers:
        dropped, twice = _dropped(paths, readers, prefer)
        without = _refused_in_vain(readers)
        pictures = sum(len(reader) + len(list(reader.failures())) for reader in readers)
        pictures -= sum(map(len, dropped)) + sum(map(len, without))
        manifest, parts = readers[0].manifest, sum(reader.manifest.parts for reader in readers)
        lists = {"pictures": pictures, "merged": _origin(readers, prefer)}
        made = facts(manifest, backend_name=backend or manifest.backend, sources=lists)
        begin_store(Path(out), made, parts)
        begin(sum(map(volume, readers)))
        work = _Work(Path(out), made["backend_name"], parts, link, tick)
        for path, reader, keys, refused in zip(paths, readers, dropped, without, strict=True):
            work.take_all(path, reader, keys, refused)
    return Merged(Path(out), Manifest.load(Path(out)), work.copied, twice)


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[StoreReader]]:
    """Readers of the stores, which are complete and of one make."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_store(path, partial=True)) for path in paths]
        for path, reader in zip(paths, readers, strict=True):
            check_complete(str(path), reader)
        check_alike({str(path): reader.manifest for path, reader in zip(paths, readers, strict=True)})
        yield readers


def _origin(readers: Sequence[StoreReader], prefer: Prefer | None) -> dict[str, Any]:
    """What the new store is made of, in which order, and who counts where two differ."""
    stores = [{"digest": digest(reader), "sources": reader.manifest.sources} for reader in readers]
    return {"stores": stores, "refused": [refused(reader.failures()) for reader in readers], "prefer": prefer}


@dataclass
class _Work:
    """Fills the parts of the new store one after the other. copied: those whose files could be."""

    out: Path
    backend: str
    parts: int
    link: bool
    tick: Tick
    number: int = 0
    copied: int = 0

    def take_all(self, store: Path, reader: StoreReader, dropped: set[str], refused: set[str]) -> None:
        """Make the parts of ``store`` the next ones, without some of its records and refusals."""
        for part in range(reader.manifest.parts):
            self._take(part_folder(store, part, reader.manifest.parts), reader, dropped, refused)

    def _take(self, folder: Path, reader: StoreReader, dropped: set[str], refused: set[str]) -> None:
        number, self.number = self.number, self.number + 1
        with Part(folder, reader.manifest.backend, reader.schema) as part:
            whole = reader.manifest.backend == self.backend and not any(key in part for key in dropped)
            if whole:
                copy_part(folder, self.out, number, self.parts, link=self.link, without=refused, tick=self.tick)
            with open_part(self.out, number, about=part.manifest.about) as writer:
                if writer.finished is None:
                    keys = (key for key in part.names() if key not in dropped)
                    copy_records(reader, told(keys, part.manifest.totals.records, part.size, self.tick), writer)
                    copy_refusals((one for one in part.refusals() if one.key not in refused), writer)
                elif not whole:
                    self.tick(part.size)
                writer.finish()
        self.copied += whole


def _dropped(
    paths: Sequence[Path], readers: Sequence[StoreReader], prefer: Prefer | None
) -> tuple[list[set[str]], int]:
    """For each store the keys whose records another one keeps, and how many keys several stores have."""
    dropped: list[set[str]] = [set() for _ in readers]
    conflicts, twice = [], 0
    for _, group in groupby(heapq.merge(*map(_keyed, readers, range(len(readers)))), lambda row: row[0]):
        (_, first, key), *others = group
        if not others:
            continue
        twice += 1
        holders = [first, *(number for _, number, _ in others)]
        stored = [readers[number].stored_bytes(key) for number in holders]
        if prefer is None and not all(same_content(stored[0], other) for other in stored[1:]):
            conflicts.append(key)
        keeper = holders[-1] if prefer == "last" else holders[0]
        for number in holders:
            if number != keeper:
                dropped[number].add(key)
    if conflicts:
        raise UsageError(
            f"{' and '.join(map(str, paths))} hold different records for {len(conflicts):,} of their pictures: "
            f"{some(conflicts)}",
            "say whose records count with --prefer first or --prefer last",
        )
    return dropped, twice


def _keyed(reader: StoreReader, number: int) -> Iterator[tuple[bytes, int, str]]:
    return ((store_key(key), number, key) for key in reader)


def _refused_in_vain(readers: Sequence[StoreReader]) -> list[set[str]]:
    """For each store the refusals that another store's record, or an earlier store's refusal, makes needless."""
    seen: set[str] = set()
    needless = []
    for reader in readers:
        refused = {one.key for one in reader.failures()}
        needless.append({key for key in refused if key in seen or any(key in other for other in readers)})
        seen |= refused
    return needless
