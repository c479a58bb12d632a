"""A store on disk, for reading: the parts of a folder as one mapping."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar, get_args

from featx.codec import store_key, text
from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.record import RecordBatch
from featx.schema import Array
from featx.store import disk
from featx.store.base import Shard, backend, open_sealed
from featx.store.gather import Gather, gatherable
from featx.store.ledger import Refusal, read_ledger, read_lines
from featx.store.manifest import Manifest, PartManifest, Totals, part_folder
from featx.store.native import reader
from featx.store.reader import Checksums, Order, StoreReader

T = TypeVar("T")


class FolderStore(StoreReader):
    """Reads the store in a folder.

    Opening reads the manifests, the size of every file and as much of it as says where its keys are. That a file finds
    its records as it did when it was finished is checked before a key is reported missing and before keys are listed; a
    record's own bytes are checked when it is read. Each process has handles of its own: a forked child opens its own
    on first use, and a pickle holds no more than the arguments.
    """

    def __init__(self, path: str | os.PathLike[str], partial: bool = False, checksums: Checksums = "once") -> None:
        if checksums not in get_args(Checksums):
            raise UsageError(f"checksums is {checksums!r}", f"choose one of {', '.join(get_args(Checksums))}")
        self.path = Path(path).absolute()
        self.partial, self.checksums = partial, checksums
        self.manifest = Manifest.load(self.path)
        count = self.manifest.parts
        self._folders = [part_folder(self.path, part, count) for part in range(count)]
        if not (self.manifest.complete or partial):
            with disk.reading(self.path):
                raise _unfinished(self.path, self._folders)
        self._open()

    def _open(self) -> None:
        with disk.reading(self.path):
            self._open_parts()

    def _open_parts(self) -> None:
        parts = [PartManifest.load(folder) for folder in self._folders]
        aliases: dict[bytes, str] = {}
        shards: list[Shard] = []
        for folder, part in zip(self._folders, parts, strict=True):
            if part is not None:
                aliases |= {k.encode(): name for k, name in part.aliases.items()}
                shards += open_sealed(self.manifest.backend, folder, self.schema, part, lazy=True)
            elif folder.is_dir():
                aliases |= {store_key(row["key"]): row["key"] for row in read_lines(folder / "aliases.jsonl")}
                shards += backend(self.manifest.backend).open_shards(folder, self.schema, sealed=False)
        if self.manifest.totals and not self.partial:
            found = sum((part.totals for part in parts if part is not None), Totals())
            _check_totals(self.path, self.manifest.totals, found)
        self._aliases, self._own = aliases, shards
        self._parts = [part for part in parts if part is not None]
        self._gather = (
            Gather(self.schema, shards, self.checksums) if reader().module and gatherable(self.schema) else None
        )
        self._pid: int | None = os.getpid()

    @property
    def _shards(self) -> list[Shard]:
        if self._pid != os.getpid():
            self._open()
        return self._own

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def holds(self, key: bytes) -> bool:
        return self._search(lambda shard: key in shard or None) is not None

    def find(self, key: bytes) -> bytes | None:
        return self._search(lambda shard: shard.get(key))

    def _search(self, look: Callable[[Shard], T | None]) -> T | None:
        """What ``look`` finds in the first file that has it; None when all can be trusted that they do not."""
        shards, broken = self._shards, None
        for place, shard in enumerate(shards):
            try:
                found = look(shard)
            except StoreDamaged as error:  # another file may have it
                broken = broken or error
                continue
            if found is not None:
                if place:  # the next key is likely to be near
                    self._own = [shard, *shards[:place], *shards[place + 1 :]]
                return found
        if broken is not None:
            raise broken
        self._trust()
        return None

    def _trust(self) -> list[Shard]:
        """All files, each of them found to be what it was when it was finished."""
        for shard in self._shards:
            shard.trust()
        return self._shards

    def get_batch(
        self, keys: Sequence[str], out: RecordBatch | None = None, *, dtype: str = "float32", boxes: str = "pixels",
        fields: Sequence[str] | None = None,
    ) -> RecordBatch:  # fmt: skip
        gather = self.gathering
        if gather is None:
            return super().get_batch(keys, out, dtype=dtype, boxes=boxes, fields=fields)
        return gather.batch(keys, out, dtype, boxes, fields, self.missing)

    def row_counts(self, keys: Sequence[str]) -> Array:
        gather = self.gathering
        return super().row_counts(keys) if gather is None else gather.row_counts(keys, self.missing)

    @property
    def gathering(self) -> Gather | None:
        return self._gather if self._shards is not None else None  # opened, if this process had not

    def missing(self, key: str) -> FeatxError:
        self._trust()
        return self._not_found(key)

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order == "source":
            headers = chain.from_iterable(shard.headers() for shard in self._trust())
            found = (key for _, key in sorted((header.ordinal, key) for key, header in headers))
        elif order == "key":
            found = heapq.merge(*self._trust())
        else:
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        return (self._aliases.get(key) or text(key) for key in found)

    def keys_after(self, key: str) -> Iterator[str]:
        stored = store_key(key)
        found = heapq.merge(*(shard.after(stored) for shard in self._trust()))
        return (self._aliases.get(own) or text(own) for own in found)

    def failures(self) -> Iterator[Refusal]:
        for folder in self._folders:
            with disk.reading(folder):
                refusals = read_ledger(folder / "ledger.jsonl")
            yield from refusals

    @property
    def parts(self) -> list[PartManifest]:
        return list(self._parts)

    def close(self) -> None:
        own, self._own, self._pid, self._gather = self._own, [], None, None
        for shard in own:
            shard.close()

    def __reduce__(self) -> tuple[type[FolderStore], tuple[str, bool, Checksums]]:
        return FolderStore, (str(self.path), self.partial, self.checksums)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name} {f.dtype}{['N', *f.shape] if f.per == 'region' else list(f.shape)}" for f in self.schema.fields
        )
        return f"FolderStore({str(self.path)!r}, {self.manifest.backend}, {len(self)} records: {fields})"


def _unfinished(path: Path, folders: list[Path]) -> StoreError:
    finished = sum((folder / "part.json").exists() for folder in folders)
    if finished == len(folders):
        return StoreError(
            f"all {finished} parts of {path} are finished, but its last writer died before it said so",
            "run the command of any part again (it computes nothing), or open it with partial=True",
        )
    return StoreError(
        f"{path} is unfinished: {finished} of {len(folders)} parts are done",
        "run the same command again to resume, or open it with partial=True to read what is there",
    )


def _check_totals(path: Path, said: Totals, found: Totals) -> None:
    if said != found:
        raise StoreDamaged(
            f"{path} does not hold what its manifest says: {found} in its parts, {said} in manifest.json",
            "a part was lost or replaced: restore it, or delete it and run its command again",
        )
