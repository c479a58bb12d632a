"""Check a store from its manifest down to every byte of every record. Reads only, in bounded memory."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

from featx.codec import decode, peek, store_key, text
from featx.errors import FeatxError, StoreDamaged
from featx.schema import Schema
from featx.store import disk
from featx.store.base import Shard, backend, open_sealed
from featx.store.ledger import Refusal, read_ledger
from featx.store.manifest import Manifest, PartManifest, Totals, file_hash, part_folder

Tick = Callable[[int], object]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, with which record (None: the file itself), and what.

    again: the record is sound, but another part has its key too.
    """

    path: Path
    key: str | None
    message: str
    again: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {'' if self.key is None else repr(self.key) + ': '}{self.message}"


@dataclass
class Report:
    """What :func:`verify` found.

    totals: of the records that are sound and of the refusals, whatever the manifests say.
    finished: number of finished parts, of ``parts``.
    """

    path: Path
    parts: int
    finished: int = 0
    totals: Totals = field(default_factory=Totals)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. An unfinished store without problems is ok."""
        return not self.problems


def verify(path: str | os.PathLike[str], *, tick: Tick = lambda read: None) -> Report:
    """Check structure, sizes, schema, counts and checksums of the store in the folder ``path``.

    Everything wrong becomes a line of the report. ``tick`` is told of the bytes as they are read (about
    :func:`volume` in all). Raises StoreError for what is not a store, or may not be read: that is no damage, and
    nothing can be said of it.
    """
    with disk.reading(Path(path)):
        return _verify(Path(path), tick)


def volume(path: str | os.PathLike[str]) -> int:
    """How many bytes :func:`verify` reads: the files of finished parts twice, as files and as records."""
    store, total = Path(path), 0
    with disk.reading(store):
        manifest = Manifest.load(store)
        for number in range(manifest.parts):
            folder = part_folder(store, number, manifest.parts)
            size = sum(file.stat().st_size for file in folder.glob("*") if file.suffix in (".lmdb", ".h5", ".log"))
            total += size * (2 if (folder / "part.json").exists() else 1)
    return total


def _verify(store: Path, tick: Tick) -> Report:
    manifest = Manifest.load(store)
    report = Report(store, manifest.parts)
    shards: list[Shard] = []
    for number in range(manifest.parts):
        folder = part_folder(store, number, manifest.parts)
        if manifest.complete and not (folder / "part.json").exists():
            what = "is missing, yet manifest.json says that the store is complete"
            report.problems.append(Problem(folder / "part.json", None, what))
        if folder.is_dir():
            shards += _verify_part(report, manifest.backend, folder, manifest.schema, tick)
    for first, second in pairwise(heapq.merge(*(_names(shard) for shard in shards))):
        if first[0] == second[0]:
            report.problems.append(Problem(second[1], text(second[0]), f"is in {first[1]} too", again=True))
    if manifest.totals not in (None, report.totals):
        report.problems.append(
            Problem(store / "manifest.json", None, f"it says {manifest.totals}, the parts hold {report.totals}")
        )
    return report


def _verify_part(report: Report, name: str, folder: Path, schema: Schema, tick: Tick) -> list[Shard]:
    """Check one part; the shards that could be read are returned for comparison with the other parts."""
    manifest, shards, refusals = None, [], []
    try:
        manifest = PartManifest.load(folder)
        refusals = read_ledger(folder / "ledger.jsonl")
        if manifest is None:
            shards = backend(name).open_shards(folder, schema, sealed=False)
        else:
            manifest.check_files(folder)
            report.problems += _changed(folder, manifest, tick)
            report.problems += [Problem(path, None, what) for path, what in backend(name).structure(folder, schema)]
            shards = open_sealed(name, folder, schema, manifest)
    except FeatxError as error:
        report.problems.append(Problem(folder, None, error.message))
    sound = chain.from_iterable(_sound(report, shard, schema, tick) for shard in shards)
    totals = Totals.of(sound, (refusal.reason for refusal in refusals))
    report.totals += totals
    report.finished += manifest is not None
    report.problems += _contradictions(folder, manifest, totals, shards, refusals)
    return shards


def _changed(folder: Path, manifest: PartManifest, tick: Tick) -> Iterator[Problem]:
    """Files that are not what was sealed. A change between the records harms nobody, but tells of the disk."""
    for name, expected in manifest.hashes.items():
        if file_hash(folder / name, tick, like=expected) != expected:
            yield Problem(folder / name, None, "its bytes have changed since it was written")


def _sound(report: Report, shard: Shard, schema: Schema, tick: Tick) -> Iterator[tuple[bytes, int]]:
    """The (key, checksum) of each record that is as it was written; the others become problems."""
    try:
        for key in shard:
            try:
                yield key, _check(shard, key, schema, tick)
            except FeatxError as error:
                report.problems.append(Problem(shard.path, text(key), error.message))
    except StoreDamaged as error:
        report.problems.append(Problem(shard.path, None, error.message))


def _check(shard: Shard, key: bytes, schema: Schema, tick: Tick) -> int:
    stored = shard.get(key)
    if stored is None:
        raise StoreDamaged(f"record {text(key)!r} is listed but cannot be found: the keys are out of order")
    tick(len(stored))
    decode(stored, schema, key).check(schema)
    return peek(stored).checksum


def _contradictions(
    folder: Path, manifest: PartManifest | None, totals: Totals, shards: list[Shard], refusals: list[Refusal]
) -> Iterator[Problem]:
    """Where the files of a part contradict each other."""
    if manifest and manifest.totals != totals:
        yield Problem(folder / "part.json", None, f"it says {manifest.totals}, sound are {totals}")
    for refusal in refusals:
        if any(store_key(refusal.key) in shard for shard in shards):
            yield Problem(folder / "ledger.jsonl", refusal.key, "was refused, and has a record")
    for stored, name in (manifest.aliases if manifest else {}).items():
        if store_key(name) != stored.encode():
            yield Problem(folder / "part.json", name, f"is not the original of {stored!r}")


def _names(shard: Shard) -> Iterator[tuple[bytes, Path]]:
    try:
        for key in shard:
            yield key, shard.path
    except StoreDamaged:
        return  # it is among the problems already
