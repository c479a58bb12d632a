"""What a store that was made of other stores was made of: an interrupted work goes on only with what it was begun with.

``sources`` of its manifest (FORMAT.md) says so beside the number of pictures:
``{"pictures": 12, "split": {"store": digest of the other store, "pictures": hash of the keys that were chosen}}``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store import Manifest, Refusal, StoreReader, create_store, disk

_WORDS = {
    "store": "another store", "stores": "other stores", "pictures": "other pictures", "refused": "other refusals",
    "prefer": "another --prefer",
}  # fmt: skip


def begin_store(folder: Path, facts: Mapping[str, Any], parts: int = 1) -> Manifest:
    """``create_store``; a UsageError says where ``folder`` is something else, or was made of something else."""
    with disk.reading(folder):
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or ("manifest.json" not in held and any(not name.startswith(".") for name in held)):
        what = "a file" if folder.is_file() else "not empty, and no store"
        raise UsageError(f"{folder} is {what}", "write to another folder")
    if "manifest.json" in held:
        there = Manifest.load(folder).sources
        if there != facts["sources"]:
            raise UsageError(
                f"{folder} is there already, and was made of {_difference(there or {}, facts['sources'] or {})}",
                "write to another folder",
            )
    return create_store(folder, **facts, parts=parts)


def check_outside(out: str | os.PathLike[str], *stores: str | os.PathLike[str]) -> None:
    """Raise UsageError for a folder that is one of these stores, or lies in one."""
    place = Path(os.path.realpath(out))
    for store in stores:
        home = Path(os.path.realpath(store))
        if home in (place, *place.parents):
            what = "is the store itself" if home == place else f"lies in the store {store}"
            raise UsageError(f"{out} {what}", "write to another folder")


def digest(reader: StoreReader) -> str:
    """The digest of the records of a complete store."""
    assert reader.manifest.totals is not None
    return reader.manifest.totals.digest


def hash_of(names: Iterable[str]) -> str:
    """sha256, hexadecimal, of keys in any order."""
    return hashlib.sha256(b"\0".join(sorted(name.encode() for name in names))).hexdigest()


def refused(failures: Iterable[Refusal]) -> str | None:
    """The hash of the pictures that were refused, and why; None of none."""
    rows = [f"{one.key}\0{one.reason}" for one in failures]
    return hash_of(rows) if rows else None


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """In words, as far as both are of one kind."""
    kinds = [{name for name, value in one.items() if isinstance(value, Mapping)} for one in (mine, theirs)]
    if kinds[0] != kinds[1] or len(kinds[0]) != 1:
        return "something else"
    (kind,) = kinds[0]
    words = [_WORDS[name] for name in theirs[kind] if mine[kind].get(name) != theirs[kind][name]]
    return " and ".join(words) or "something else"
