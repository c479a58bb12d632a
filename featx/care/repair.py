"""Repair a store: keep every record that is sound, list the rest, leave manifests that are true.

A damaged part is written anew beside the store's parts, and gets its name in one step; what was there is kept as
``parts/.damaged-...`` until :func:`drop_damaged`. Killed at any moment, the store is as it was, or this part is done.
Records are copied as they are stored: their checksums, seeded by their keys, say which are sound.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.care.folders import copy_part
from featx.care.origin import check_outside
from featx.care.rewrite import PartRepair, part_size, rewrite
from featx.care.salvage import Salvage
from featx.care.swap import free_name, kept, restore, swap
from featx.care.transfer import identity
from featx.errors import StoreError, UsageError
from featx.progress import Tick
from featx.store import Manifest, PartManifest, Report, Totals, create_store, disk, open_part, verify
from featx.store.completion import reopen
from featx.store.manifest import part_folder
from featx.store.verify import volume

_MARK = ".repaired.json"  # in a new store: what it was made of


@dataclass(frozen=True)
class Repair:
    """What :func:`repair` found and did. before: the report of the store as it was. manifest: as it is now."""

    path: Path
    before: Report
    parts: list[PartRepair]
    manifest: Manifest
    notes: list[str]

    @property
    def lost(self) -> dict[str, str]:
        """Key -> what is wrong with its record, of all parts."""
        return {key: why for part in self.parts for key, why in part.lost.items()}

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        return not any(part.lost or part.unnamed or part.state != "rewritten" for part in self.parts)


def repair(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    begin: Tick = lambda total: None,
    tick: Tick = lambda count: None,
) -> Repair:
    """Repair the store in the folder ``path`` in place, or into a new store ``out``.

    Every sound record is kept, bit for bit. Keys of lost records go to the ledger with the reason "damaged", so that
    ``featx extract --retry-refused`` computes exactly those again; a part that lacks pictures whose keys stand nowhere
    is left open, so that the command of that part computes what is missing. Raises StoreError for a store without a
    readable manifest.json (how it was made stands nowhere else), or that is being written; UsageError for an ``out``
    that lies in the store or was made of anything else. ``begin`` is told how many bytes there are, first about those
    to be verified and then those to be written anew, ``tick`` of those that are done.
    """
    store = Path(path)
    manifest = _manifest(store)
    if out is None:
        _tidy(store, manifest)
    else:
        check_outside(out, store)
    begin(volume(store))
    before = verify(store, tick=tick)
    work = _damaged(before, manifest) if out is None else range(manifest.parts)
    if todo := sum(part_size(part_folder(store, part, manifest.parts)) for part in work):
        begin(todo)
    if out is None:
        parts = [_replace(store, manifest, part, before, tick) for part in work]
        notes = _settle(store)
        return Repair(store, before, parts, Manifest.load(store), notes)
    parts = _into(store, Path(out), manifest, before, tick)
    notes = _settle(Path(out))
    return Repair(Path(out), before, parts, Manifest.load(Path(out)), notes)


def drop_damaged(path: str | os.PathLike[str]) -> list[Path]:
    """Remove what :func:`repair` set aside, and what an interrupted one left; returns the folders."""
    store = Path(path)
    Manifest.load(store)
    gone = [*kept(store / "parts"), *([_scratch(store)] if _scratch(store).exists() else [])]
    for folder in gone:
        shutil.rmtree(folder)
    return gone


def _manifest(store: Path) -> Manifest:
    try:
        return Manifest.load(store)
    except StoreError as error:
        if not (store / "parts").is_dir():
            raise
        raise StoreError(
            f"{error.message}; its parts cannot be repaired without: what the records hold and how they were made "
            "stands in manifest.json alone, and guessing would make a store that says what nobody knows",
            "put back manifest.json from a copy, or that of a store made by the same command, and run this again",
        ) from error


def _tidy(store: Path, manifest: Manifest) -> None:
    """Take up after a repair that was interrupted."""
    for part in range(manifest.parts):
        place = part_folder(store, part, manifest.parts)
        if not place.exists() and (asides := sorted(place.parent.glob(f".damaged-{place.name}*"))):
            restore(place, asides[-1])
    if _scratch(store).exists():
        shutil.rmtree(_scratch(store))


def _damaged(report: Report, manifest: Manifest) -> list[int]:
    """The parts that have to be written anew. A key in two parts is the later one's problem."""
    folders = {part_folder(report.path, part, manifest.parts): part for part in range(manifest.parts)}
    found = {folders.get(place) for problem in report.problems for place in (problem.path, problem.path.parent)}
    return sorted(part for part in found if part is not None)


def _expected(store: Path, manifest: Manifest, part: int) -> int | None:
    """How many pictures the part has: by its own manifest, or what the others leave of the whole list."""
    sizes: dict[int, int] = {}
    for number in range(manifest.parts):
        said = Salvage(part_folder(store, number, manifest.parts), manifest.backend, manifest.schema).manifest
        if said is not None:
            sizes[number] = said.totals.records + said.totals.refused
    if part in sizes or len(sizes) < manifest.parts - 1:
        return sizes.get(part)
    if manifest.totals is not None:
        return manifest.totals.records + manifest.totals.refused - sum(sizes.values())
    pictures = (manifest.sources or {}).get("pictures")
    return None if pictures is None else int(pictures) - sum(sizes.values())


def _replace(store: Path, manifest: Manifest, part: int, before: Report, tick: Tick) -> PartRepair:
    """Write one part anew and put it in the place of the old one."""
    place, expected = part_folder(store, part, manifest.parts), _expected(store, manifest, part)
    if not place.is_dir():
        reopen(store)
        return PartRepair(part, "missing", unnamed=expected or 0)
    scratch = _scratch(store)
    with disk.room(store), disk.Lock(place / ".lock", f"part {part} of {manifest.parts} of {store}"):
        facts = (manifest.backend, manifest.schema, manifest.provenance, manifest.labels)
        create_store(scratch, *facts, parts=manifest.parts)
        done = rewrite(place, scratch, manifest, part, expected, _twice(before, place), tick)
        aside = free_name(place)
        reopen(store)
        swap(part_folder(scratch, part, manifest.parts), place, aside)
        shutil.rmtree(scratch)
    return replace(done, aside=aside)


def _twice(report: Report, place: Path) -> set[str]:
    """The keys of a part whose sound record an earlier part has too."""
    broken = {one.key for one in report.problems if not one.again}
    return {str(one.key) for one in report.problems if one.again and one.path.parent == place} - broken


def _into(store: Path, out: Path, manifest: Manifest, before: Report, tick: Tick) -> list[PartRepair]:
    """The repaired store as a new one; sound parts are copied as they are."""
    mine = json.dumps({"of": identity(manifest), "sound": asdict(before.totals)}, sort_keys=True).encode()
    mark = out / _MARK
    if (out / "parts").exists() and (not mark.exists() or mark.read_bytes() != mine):
        raise UsageError(f"{out} is there already, and was made of something else", "write to another folder")
    create_store(
        out, manifest.backend, manifest.schema, manifest.provenance, manifest.labels,
        parts=manifest.parts, sources=manifest.sources,
    )  # fmt: skip
    with disk.room(out):
        disk.publish(mark, mine)
    damaged, done = _damaged(before, manifest), []
    for part in range(manifest.parts):
        old = part_folder(store, part, manifest.parts)
        if not old.is_dir():
            done.append(PartRepair(part, "missing", unnamed=_expected(store, manifest, part) or 0))
        elif part in damaged or PartManifest.load(old) is None:
            one = rewrite(old, out, manifest, part, _expected(store, manifest, part), _twice(before, old), tick)
            done += [one] if part in damaged else []
        else:
            copy_part(old, out, part, manifest.parts, tick=tick)
    return done


def _settle(store: Path) -> list[str]:
    """Complete the manifest when every part is finished; what stands in the way becomes a note."""
    manifest = Manifest.load(store)
    folders = [part_folder(store, part, manifest.parts) for part in range(manifest.parts)]
    finished = [part for part in map(PartManifest.load, folders) if part is not None]
    if manifest.totals not in (None, sum((part.totals for part in finished), Totals())):
        reopen(store)
    try:
        if len(finished) == manifest.parts:
            open_part(store, 0).finish()
    except (StoreError, UsageError) as error:
        return [error.message]
    return []


def _scratch(store: Path) -> Path:
    return store / ".repair"
