"""The LXMERT TSV in and out of a store, as the command does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featx.formats import Options, Records, get
from featx.formats.importer import import_items
from featx.store import StoreReader, Totals


def import_tsv(tsv: Path, store: Path, backend: str = "lmdb", dtype: str = "float32", labels: Any = None) -> Totals:
    """A TSV into a store."""
    return import_items(get("lxmert-tsv"), tsv, store, Options(dtype=dtype, labels=labels or {}), backend=backend)


def export_tsv(store: StoreReader, out: Path) -> int:
    """A store into a TSV; the number of rows."""
    return get("lxmert-tsv").write(Records(store), out, Options())
