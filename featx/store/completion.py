"""Whether a store is complete: what its manifest promises of all its parts, and the lock under which that changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featx.store import disk
from featx.store.ledger import append_lines
from featx.store.manifest import Manifest, PartManifest, Totals, part_folder


def manifest_lock(store: Path) -> disk.Lock:
    """What everybody waits for and holds who writes ``manifest.json``."""
    return disk.Lock(store / ".lock", f"the manifest of {store}", wait=True)


def complete(store: Path) -> None:
    """Mark the store complete if every part is finished.

    Raises StoreError when these do not make the number of pictures in ``sources``.
    """
    with manifest_lock(store):
        manifest = Manifest.load(store)
        folders = [part_folder(store, part, manifest.parts) for part in range(manifest.parts)]
        parts = [part for part in map(PartManifest.load, folders) if part is not None]
        if manifest.totals is None and len(parts) == manifest.parts:
            totals = sum((part.totals for part in parts), Totals())
            manifest.check_complete(totals)
            replace(manifest, totals=totals).save(store)


def reopen(store: Path) -> None:
    """Mark the store unfinished. This goes before any change: no manifest may promise a part that is not whole."""
    with manifest_lock(store):
        _withdraw(store)


def reopen_part(store: Path, folder: Path) -> None:
    """Mark the store unfinished, and then its finished part in ``folder``."""
    with manifest_lock(store):
        _withdraw(store)
        part = PartManifest.load(folder)
        append_lines(folder / "aliases.jsonl", [{"key": name} for name in part.aliases.values()] if part else [])
        disk.remove(folder / "part.json")
        disk.sync(folder)


def _withdraw(store: Path) -> None:
    manifest = Manifest.load(store)
    if manifest.totals is not None:
        replace(manifest, totals=None).save(store)
