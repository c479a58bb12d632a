"""Whole parts of a store, copied as the immutable files they are: no record is decoded, no byte changes."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from featx.care.hashing import Hashing, blocks_of
from featx.errors import StoreDamaged
from featx.progress import Tick
from featx.store import PartManifest, Totals, disk
from featx.store.ledger import append_lines, read_ledger
from featx.store.manifest import file_hash, part_folder

LEDGER = "ledger.jsonl"


def copy_part(
    source: Path,
    store: Path,
    part: int,
    parts: int,
    *,
    link: bool = False,
    without: Container[str] = (),
    tick: Tick = lambda read: None,
) -> PartManifest:
    """Make the finished part in the folder ``source`` part ``part`` of ``parts`` of ``store``.

    A copy that was cut goes on where it was. Every file is checked against its hash on the way. ``link``: hard links
    instead of copies, for stores that are only read. without: keys whose refusals are left out. Raises StoreDamaged for
    a file that is not as it was written, StoreError while another process writes the part. ``tick`` is told of the
    bytes of all files, also of those that are there.
    """
    said = PartManifest.load(source)
    if said is None:
        raise StoreDamaged(f"{source} has no part.json", "run `featx verify --repair` on its store first")
    target = part_folder(store, part, parts)
    said.check_files(source)
    with disk.room(store):
        disk.make_folders(target)
    with disk.room(store), disk.Lock(target / ".lock", f"part {part} of {parts} of {store}"):
        if (done := PartManifest.load(target)) is not None:
            tick(sum(said.files.values()))
            return done
        for name in said.files:
            if name != LEDGER or not without:
                _copy(source / name, target / name, said.hashes[name], link, tick)
            else:
                tick(said.files[name])
        made = _renumbered(source, target, said, without)
        made = replace(made, part=part, parts=parts)
        made.save(target)
    return made


def _copy(source: Path, target: Path, expected: str, link: bool, tick: Tick) -> None:
    """One file, whole or not at all."""
    size = source.stat().st_size
    if target.exists() and target.stat().st_size == size:
        tick(size)
        return
    draft = disk.temporary(target)
    disk.remove(draft)
    found = _linked(source, draft, expected, tick) if link else _copied(source, draft, expected, tick)
    if found != expected:
        disk.remove(draft)
        raise StoreDamaged(
            f"{source} is damaged: its bytes have changed", "run `featx verify --repair` on its store first"
        )
    disk.settle(target)


def _linked(source: Path, draft: Path, like: str, tick: Tick) -> str:
    """Give a file a second name; returns its hash."""
    os.link(source, draft)  # the disk's ``settle`` decides under which name it survives
    return file_hash(draft, tick, like=like)


def _copied(source: Path, draft: Path, like: str, tick: Tick) -> str:
    """Copy a file; returns the hash of what was read."""
    state, at = Hashing(like), 0
    disk.create(draft)
    for block in blocks_of(source):
        state.update(block)
        disk.put(draft, block, at)
        at += len(block)
        tick(len(block))
    return state.hexdigest()


def _renumbered(source: Path, target: Path, said: PartManifest, without: Container[str]) -> PartManifest:
    """The manifest of the copy; its ledger is written anew when refusals are left out."""
    if not without or LEDGER not in said.files:
        return said
    kept = [one for one in read_ledger(source / LEDGER) if one.key not in without]
    ledger = target / LEDGER
    disk.publish(ledger, b"")
    append_lines(ledger, [one._asdict() for one in kept])
    return replace(
        said,
        totals=replace(
            Totals.of((), (one.reason for one in kept)), records=said.totals.records, digest=said.totals.digest
        ),
        files={**said.files, LEDGER: ledger.stat().st_size},
        hashes={**said.hashes, LEDGER: file_hash(ledger)},
    )
