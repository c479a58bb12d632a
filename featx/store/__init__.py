"""Stores of records: a folder with a manifest and parts, behind one reader and one writer.

``open_store`` reads; ``create_store`` and ``open_part`` write; ``verify`` checks. FORMAT.md describes the folder.
Inside, imports go one way: disk, agree, rule < manifest, ledger < base, reader, completion < view, the backends <
folder, creation, writer < verify.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store.creation import create_store
from featx.store.folder import FolderStore
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest, Totals
from featx.store.reader import Checksums, Order, StoreReader
from featx.store.verify import Problem, Report, verify
from featx.store.view import is_location, located, view_manifest
from featx.store.writer import PartWriter, open_part

__all__ = [
    "Checksums", "Location", "Manifest", "Order", "PartManifest", "PartWriter", "Problem", "Refusal", "Report",
    "StoreReader", "Totals", "create_store", "is_location", "located", "open_part", "open_store", "read_manifest",
    "verify",
]  # fmt: skip


Location = str | os.PathLike[str] | Mapping[str, Any]


def open_store(
    path: Location, *, partial: bool = False, view: Mapping[str, Any] | None = None, checksums: Checksums = "once"
) -> StoreReader:
    """Open the store in the folder ``path`` for reading.

    ``partial=True`` opens an unfinished store too, with every record committed so far. ``view`` are arguments of
    :meth:`StoreReader.view`, for a superset store; ``{"path": ..., "boxes": 36}`` says both at once. ``checksums``:
    when the bytes of a record are checked, "always", "once" (in a batch: the first time that this process reads it) or
    "never". Raises StoreError for what is not a store, is unfinished or newer than this featx; StoreDamaged for what
    is not as it was written; UsageError for a view that the store cannot give.
    """
    folder, stated = located(path)
    asked = {**stated, **{name: value for name, value in (view or {}).items() if value is not None}}
    store = FolderStore(folder, partial, checksums)
    try:
        return store.view(**asked) if asked else store
    except UsageError:
        store.close()
        raise


def read_manifest(path: Location) -> Manifest:
    """The manifest of the store in ``path``, or of the view that it names, without opening its records."""
    folder, asked = located(path)
    manifest = Manifest.load(Path(folder))
    return view_manifest(manifest, **asked) if asked else manifest
