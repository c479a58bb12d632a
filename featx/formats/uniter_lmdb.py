"""UNITER's LMDB (ChenRocks/UNITER, ``scripts/convert_imgdir.py``; read by ``data/data.py`` ``DetectFeatLmdb``).

Key: the name of the npz, ``.npz`` included. Value: msgpack of float16 arrays, or the bytes of a compressed npz where
the folder's name ends in ``_compressed``. ``b"__keys__"``: JSON list of names. ``norm_bb`` is x0/W, y0/H, x1/W, y1/H,
w/W, h/H in float16, so pixels need the size of the picture and are right to 1/4096 of its sides. Rows are sorted by
``conf``; beside ``feat_th0.2_max100_min10`` lies ``nbb_th0.2_max100_min10.json``: the number of rows that count.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import FeatxError, UsageError
from featx.formats.base import Format, Item, Survey
from featx.formats.lmdb_items import Entry, entries, survey_of
from featx.formats.lmdb_tree import LmdbTree
from featx.formats.lmdb_write import LmdbWriter
from featx.formats.msgpacked import pack, unpack
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import floats, vector
from featx.record import Record
from featx.schema import Array
from featx.store import disk

INDEX = b"__keys__"
_ARRAYS = ("norm_bb", "features", "conf", "soft_labels")
_LONGEST = 1 << 30  # bytes of an array in a compressed value
_COMPRESSED = "_compressed"


class UniterLmdb(Format):
    """UNITER."""

    name = "uniter-lmdb"
    title = "LMDB of UNITER"
    source = "ChenRocks/UNITER, scripts/convert_imgdir.py"
    losses = (
        "everything is float16; boxes are parts of the picture's sides, right to 1/4096 of them, without its size",
        "regions are sorted by confidence",
        "of classes only class_probs are in the file, no ids or attributes",
    )
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
        sizes = Sizes(options)
        sizes.must(path)
        counts = _counts(path)
        with LmdbTree(path) as tree:
            for entry in entries(tree, INDEX, _keys, start, recover=False):
                yield _item(entry, options, sizes, counts)

    def write(self, records: Records, path: Path, options: Options) -> int:
        """The folder's name decides: ``_compressed`` at its end, and ``feat_th...`` for the file of row counts."""
        records.need("object_confs", what=self.title)
        counts: dict[str, int] = {}
        with LmdbWriter(path) as out:
            for key, record in records:
                name = f"{key}.npz"
                counts[name] = len(record)
                values = _values(key, record)
                out.put(name.encode(), _npz(values) if path.name.endswith(_COMPRESSED) else pack(values))
            out.put(INDEX, json.dumps(list(counts)).encode())
        for sidecar in self.beside(path):
            disk.publish(sidecar, json.dumps(counts).encode())
        return len(counts)

    def beside(self, path: Path) -> list[Path]:
        """The row counts, where the folder's name says that there are such."""
        return [place for place in [_sidecar(path)] if place is not None]


def _keys(index: bytes) -> list[bytes]:
    return [str(name).encode() for name in json.loads(index)]


def _sidecar(path: Path) -> Path | None:
    """Where the row counts of an environment are, by its name; None for those that have no such file."""
    folder = path if path.suffix != ".mdb" else path.parent
    kind = folder.name.removesuffix(_COMPRESSED)
    return folder.parent / f"nbb_{kind[len('feat_') :]}.json" if kind.startswith("feat_th") else None


def _counts(path: Path) -> Mapping[str, Any]:
    """Row counts by name; empty where there is no file of them."""
    sidecar = _sidecar(path)
    if sidecar is None or not sidecar.exists():
        return {}
    try:
        return dict(json.loads(sidecar.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{sidecar} cannot be read: {error}", "mend it, or move it away to read all rows") from None


def _item(entry: Entry, options: Options, sizes: Sizes, counts: Mapping[str, Any]) -> Item:
    key = ""
    try:
        name = entry.key.decode()
        key = key_of(name.removesuffix(".npz"), options) if entry.key else ""
        if entry.problem:
            raise ValueError(entry.problem)
        record = _record(_arrays(entry.value), sizes.need(key), counts.get(name))
    except (ValueError, FeatxError, zipfile.BadZipFile, zlib.error) as error:
        problem = error.message if isinstance(error, FeatxError) else str(error)
        return Item(entry.number, entry.place, key, None, problem)
    return Item(entry.number, entry.place, key, record)


def _arrays(value: bytes) -> dict[str, Any]:
    if value[:2] != b"PK":
        found = unpack(value)
        if not isinstance(found, dict) or not found:
            raise ValueError("the value holds nothing: its npz could not be read when the file was made")
        return found
    with zipfile.ZipFile(io.BytesIO(value)) as archive:
        if any(member.file_size > _LONGEST for member in archive.infolist()):
            raise ValueError(f"an array is longer than {_LONGEST} bytes")
    try:
        with np.load(io.BytesIO(value), allow_pickle=False) as found:
            return {name: found[name] for name in _ARRAYS if name in found.files}
    except (
        KeyError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        SyntaxError,
        MemoryError,
    ) as error:
        raise ValueError(f"the npz is damaged: {error}") from None


def _record(values: Mapping[str, Any], size: tuple[int, int], count: Any) -> Record:
    missing = [name for name in ("norm_bb", "features") if name not in values]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    places, features = (floats(values[name], name) for name in ("norm_bb", "features"))
    rows = len(features)
    if len(places) != rows or places.shape[1] < 4:
        raise ValueError(f"norm_bb has shape {list(places.shape)} for {rows} rows of features")
    height, width = size
    boxes = places[:, :4].astype("<f4") * np.array([width, height, width, height], "<f4")
    extra = {}
    if "conf" in values:
        extra["object_confs"] = vector(values["conf"], "conf", rows, "numbers")
    if "soft_labels" in values:
        extra["class_probs"] = floats(values["soft_labels"], "soft_labels")
        if len(extra["class_probs"]) != rows:
            raise ValueError(f"soft_labels has {len(extra['class_probs'])} rows for {rows} regions")
    kept = rows if type(count) is not int else min(max(count, 0), rows)
    return Record(features[:kept], boxes[:kept], size, extra={name: array[:kept] for name, array in extra.items()})


def _values(key: str, record: Record) -> dict[str, Array]:
    """The arrays of a picture, rows by falling confidence. Raises UsageError for what float16 cannot hold."""
    order = np.argsort(-record.object_confs, kind="stable")
    height, width = record.size
    box = record.boxes[order] / np.array([width, height, width, height], "<f4")
    places = np.concatenate([box, box[:, 2:] - box[:, :2]], 1)
    values = {"norm_bb": places, "features": record.features[order], "conf": record.object_confs[order][:, None]}
    if "class_probs" in record.extra:
        values["soft_labels"] = record.class_probs[order]
    with np.errstate(over="ignore"):
        halves = {name: array.astype("<f2") for name, array in values.items()}
    if bad := next((name for name, array in halves.items() if not np.isfinite(array).all()), None):
        raise UsageError(f"{bad} of picture {key!r} holds a number beyond float16 (65504)", "export another format")
    return halves


def _npz(values: Mapping[str, Array]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **values)  # type: ignore[arg-type]  # its flag allow_pickle is no array of ours
    return out.getvalue()
