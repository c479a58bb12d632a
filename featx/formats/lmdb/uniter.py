"""UNITER's LMDB (ChenRocks/UNITER, ``scripts/convert_imgdir.py``; read by ``data/data.py`` ``DetectFeatLmdb``).

Key: the name of the npz, ``.npz`` included. Value: msgpack of float16 arrays, or the bytes of a compressed npz where
the folder's name ends in ``_compressed``. ``b"__keys__"``: JSON list of names. The arrays are in ``uniter``. Rows are
sorted by ``conf``; beside ``feat_th0.2_max100_min10`` lies ``nbb_th0.2_max100_min10.json``: how many of them count.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featx.errors import FeatxError, UsageError
from featx.formats.base import Format, Item, Survey, item_of
from featx.formats.draft import export_facts
from featx.formats.lmdb.items import Entry, entries, survey_of
from featx.formats.lmdb.tree import LmdbTree
from featx.formats.lmdb.write import LmdbWriter
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.uniter import ARRAYS, LOSSES, dump_of_record, record_of_dump
from featx.formats.values import npz
from featx.formats.values.msgpack import pack, unpack
from featx.record import Record
from featx.store import disk

INDEX = b"__keys__"
_COMPRESSED = "_compressed"


class UniterLmdb(Format):
    """UNITER."""

    name = "uniter-lmdb"
    title = "LMDB of UNITER"
    source = "ChenRocks/UNITER, scripts/convert_imgdir.py"
    losses = LOSSES
    takes = frozenset({"key", "sizes"})

    def detect(self, path: Path) -> bool:
        try:
            with LmdbTree(path) as tree:
                return tree.find(INDEX) is not None
        except FeatxError:
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        return survey_of(path, INDEX, _keys, recover=False)

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes = Sizes.of(options)
        sizes.must(path)
        counts = _counts(path)
        with LmdbTree(path) as tree:
            for entry in entries(tree, INDEX, _keys, start, recover=False):
                yield _item(entry, options, sizes, counts)

    def write(self, records: Records, path: Path, options: Options) -> int:
        """The folder's name decides: ``_compressed`` at its end, and ``feat_th...`` for the file of row counts."""
        records.need("object_confs", what=self.title)
        counts: dict[str, int] = {}
        with LmdbWriter(path, export_facts(records, self.name)) as out:
            for key, record in records:
                name = f"{key}.npz"
                counts[name] = len(record)
                values = dump_of_record(key, record)
                out.put(name.encode(), npz.pack(values) if path.name.endswith(_COMPRESSED) else pack(values))
            out.put(INDEX, json.dumps(list(counts)).encode())
            out.flush()
            for counted in self.beside(path):  # before the records: old counts would cut new ones
                disk.publish(counted, json.dumps(counts).encode())
        return len(counts)

    def beside(self, path: Path) -> list[Path]:
        """The row counts, where the folder's name says that there are such."""
        return [place for place in [_beside(path)] if place is not None]


def _keys(index: bytes) -> list[bytes]:
    return [str(name).encode() for name in json.loads(index)]


def _beside(path: Path) -> Path | None:
    """Where the row counts of an environment are, by its name; None for those that have no such file."""
    folder = path if path.suffix != ".mdb" else path.parent
    kind = folder.name.removesuffix(_COMPRESSED)
    return folder.parent / f"nbb_{kind[len('feat_') :]}.json" if kind.startswith("feat_th") else None


def _counts(path: Path) -> Mapping[str, Any]:
    """Row counts by name; empty where there is no file of them."""
    counted = _beside(path)
    if counted is None or not counted.exists():
        return {}
    try:
        return dict(json.loads(counted.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{counted} cannot be read: {error}", "mend it, or move it away to read all rows") from None


def _item(entry: Entry, options: Options, sizes: Sizes, counts: Mapping[str, Any]) -> Item:
    def key() -> str:
        return key_of(entry.key.decode().removesuffix(".npz"), options) if entry.key else ""

    def record(key: str) -> Record:
        if entry.problem:
            raise ValueError(entry.problem)
        return record_of_dump(_arrays(entry.value), sizes.need(key), counts.get(entry.key.decode()))

    return item_of(entry.number, entry.place, key, record)


def _arrays(value: bytes) -> dict[str, Any]:
    if value[:2] != b"PK":
        found = unpack(value)
        if not isinstance(found, dict) or not found:
            raise ValueError("the value holds nothing: its npz could not be read when the file was made")
        return found
    return npz.arrays(io.BytesIO(value), ARRAYS)
