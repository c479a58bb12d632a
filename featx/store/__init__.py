"""Stores of records: a folder with a manifest and parts, behind one reader and one writer.

``open_store`` reads; ``create_store`` and ``open_part`` write; ``verify`` checks. FORMAT.md describes the folder.
Inside, imports go one way: disk, agree < manifest, ledger < base < the backends < folder, writer < verify.
"""

from __future__ import annotations

import os

from featx.store.base import Order, StoreReader
from featx.store.folder import FolderStore
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest, Totals
from featx.store.verify import Problem, Report, verify
from featx.store.writer import PartWriter, create_store, open_part

__all__ = [
    "Manifest", "Order", "PartManifest", "PartWriter", "Problem", "Refusal", "Report", "StoreReader", "Totals",
    "create_store", "open_part", "open_store", "verify",
]  # fmt: skip


def open_store(path: str | os.PathLike[str], *, partial: bool = False) -> StoreReader:
    """Open the store in the folder ``path`` for reading.

    ``partial=True`` opens an unfinished store too, with every record committed so far. Raises StoreError for what is
    not a store, is unfinished or newer than this featx; StoreDamaged for what is not as it was written.
    """
    return FolderStore(path, partial)
