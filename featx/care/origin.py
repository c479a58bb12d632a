"""What a store that was made of other stores was made of: an interrupted work goes on only with what it was begun with.

``sources`` of its manifest (FORMAT.md) says so beside the number of pictures:
``{"pictures": 12, "split": {"store": digest of the other store, "pictures": hash of the keys that were chosen}}``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store import Manifest, Refusal, StoreReader, create_store

_WORDS = {
    "store": "another store", "stores": "other stores", "pictures": "other pictures", "refused": "other refusals",
    "prefer": "another --prefer",
}  # fmt: skip


def begin_store(folder: Path, facts: Mapping[str, Any], parts: int = 1) -> Manifest:
    """``create_store``; where another origin is why it cannot be, the UsageError says in what it differs."""
    if (folder / "manifest.json").exists():
        there = Manifest.load(folder).sources
        if there != facts["sources"]:
            raise UsageError(
                f"{folder} is there already, and was made of {_difference(there or {}, facts['sources'] or {})}",
                "write to another folder, or remove this one",
            )
    return create_store(folder, **facts, parts=parts)


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
