"""How a store begins: one manifest, to which every process that comes later agrees, and names that a store can hold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.schema import Schema
from featx.store import disk
from featx.store.base import backend
from featx.store.completion import manifest_lock
from featx.store.hdf5_columns import ARRAY_COLUMNS, COLUMNS, OFFSET
from featx.store.manifest import Manifest

RESERVED = (COLUMNS | ARRAY_COLUMNS).keys() - {OFFSET}  # arrays of an HDF5 file beside the fields
LONGEST_NAME = 255  # bytes of UTF-8, of a field
MOST_AXES = 30  # of the shape of a field; HDF5 has 32 with record and region
_BEGUN = {".lock", ".manifest.json.tmp"}  # all there may be of a store whose first writer died early


def create_store(
    path: str | os.PathLike[str],
    backend_name: str,
    schema: Schema,
    provenance: Mapping[str, Any],
    labels: Mapping[str, Any] | None = None,
    *,
    parts: int = 1,
    sources: Mapping[str, Any] | None = None,
) -> Manifest:
    """Create the store in the folder ``path``, or check that the one that is there was made the same way.

    The first process to arrive writes the manifest; every later one must agree with it about backend, number of parts,
    sources, schema, provenance and labels. ``sources`` stands for the whole list of pictures, of all parts:
    ``{"pictures": number, "sha256": hash of the ordered keys and locations}``; the store is complete only when its
    records and refusals make that number. Raises UsageError that names each difference with both values, StoreError
    for a folder that cannot be read or written.
    """
    backend(backend_name)
    store = Path(path)
    _check_request(None if (store / "manifest.json").exists() else schema, parts)
    facts: dict[str, Any] = {"provenance": provenance, "labels": labels or {}, "sources": sources}
    facts = json.loads(json.dumps(facts, allow_nan=False))
    manifest = Manifest(backend_name, parts, schema, featx=_version(), **facts)
    with disk.reading(store):
        if store.is_file() or (store.exists() and not {path.name for path in store.iterdir()} <= _BEGUN):
            Manifest.load(store)  # somebody else's file or folder: refuse rather than move in
    with disk.room(store):
        disk.make_folders(store.absolute())
    with disk.room(store), manifest_lock(store):
        if (store / "manifest.json").exists():
            present = Manifest.load(store)
            present.agree(manifest)
            return present
        manifest.save(store)
    return manifest


def _check_request(schema: Schema | None, parts: int) -> None:
    """Raise UsageError for what no new store can be; ``schema`` is None where there is a store, whose names stand."""
    if parts < 1:
        raise UsageError(f"a store of {parts} parts cannot be", "give at least 1 part")
    for field in () if schema is None else schema.fields:
        printable = field.name.isprintable() and field.name not in ("", ".") and "/" not in field.name
        if not printable or len(field.name.encode()) > LONGEST_NAME or len(field.shape) > MOST_AXES:
            raise UsageError(
                f"a field cannot be called {field.name[:80]!r} or have the shape {list(field.shape)[:40]}",
                f"give it a name of at most {LONGEST_NAME} bytes without slashes, and at most {MOST_AXES} axes",
            )
    taken = sorted(RESERVED & {field.name for field in schema.fields}) if schema else []
    if taken:
        raise UsageError(f"a field cannot be called {', '.join(taken)}: a store uses that name", "call it otherwise")


def _version() -> str:
    try:
        return metadata.version("featx")
    except metadata.PackageNotFoundError:
        return "unknown"
