"""The LXMERT TSV in and out of a store, as the command does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from featx.formats import Item, Options, Records, get
from featx.formats.importer import import_items
from featx.formats.lines.lxmert import LxmertTsv
from featx.store import StoreReader, Totals


def import_tsv(tsv: Path, store: Path, backend: str = "lmdb", dtype: str = "float32", labels: Any = None) -> Totals:
    """A TSV into a store."""
    return import_items(get("lxmert-tsv"), tsv, store, Options(dtype=dtype, labels=labels or {}), backend=backend)


def read_tsv(tsv: Path) -> Iterator[Item]:
    """The rows of a TSV."""
    return get("lxmert-tsv").read(tsv, Options())


def write_tsv(records: Records, out: BinaryIO) -> None:
    """The rows of records."""
    form = get("lxmert-tsv")
    assert isinstance(form, LxmertTsv)
    form.write_lines(records, out)


def export_tsv(store: StoreReader, out: Path) -> int:
    """A store into a TSV; the number of rows."""
    return get("lxmert-tsv").write(Records(store), out, Options())
