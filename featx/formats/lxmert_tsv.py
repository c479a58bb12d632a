"""The TSV of LXMERT (airsplay/lxmert, ``src/utils.py``): one line per picture, arrays in base64, no header.

Columns: img_id, img_h, img_w, objects_id (int64), objects_conf (float32), attrs_id (int64), attrs_conf (float32),
num_boxes, boxes (float32 [n, 4], pixels x0 y0 x1 y1), features (float32 [n, D]). Line ends are ``\\r\\n``. Ids fit
int32 and are held as such; everything else is kept to the bit, so a float32 store gives the file back byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from featx.codec import store_key
from featx.errors import RecordError, UsageError
from featx.record import Record
from featx.schema import Array, BoxKind, Schema, region_schema
from featx.store import PartWriter, StoreReader, Totals, create_store, disk, open_part

_EXTRA = ("object_ids", "object_confs", "attribute_ids", "attribute_confs")
_LONGEST_ROW = 256 << 20  # bytes; what has no line end until then is not such a file


class Row(NamedTuple):
    """One line: its number from 0, its place in the file in bytes, and its picture, or what is wrong with it."""

    number: int
    offset: int
    key: str
    record: Record | None
    problem: str


def read_tsv(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a file, one in memory at a time. A bad row is a row with a ``problem``; reading goes on behind it."""
    number = offset = 0
    with Path(path).open("rb") as file:
        while line := file.readline(_LONGEST_ROW):
            if line.strip():
                yield _row(number, offset, line)
                number += 1
            offset += len(line)


def write_tsv(store: StoreReader, out: BinaryIO) -> int:
    """Write the records of ``store`` in the order of the source list, without padding. Returns their number."""
    missing = [name for name in _EXTRA if name not in [f.name for f in store.schema.fields]]
    if missing:
        raise UsageError(f"the store has no {', '.join(missing)}; the TSV needs them", "export another format")
    number = 0
    for key in store.keys("source"):
        out.write(_line(key, store[key]))
        number += 1
    return number


def import_tsv(
    tsv: str | os.PathLike[str],
    store: str | os.PathLike[str],
    backend: str = "lmdb",
    dtype: str = "float32",
    labels: Mapping[str, Any] | None = None,
    *,
    boxes: BoxKind = "proposal",
) -> Totals:
    """Read a TSV into a store of one part; killed, the same call resumes. Bad rows and repeats go to the ledger.

    ``boxes`` says which boxes the file holds: the published files hold proposals, and features pooled from them.
    Returns the counts. Raises UsageError when there is no usable row at all, or when the first one has an id beyond
    ``labels``; a later row with such an id is a bad row.
    """
    path, names = Path(tsv), labels or {}
    first = next((row.record for row in read_tsv(path) if row.record and len(row.record)), None)
    if first is None:
        raise UsageError(f"{path} has no row that can be read as LXMERT TSV", "check the format of the file")
    if unnamed := _unnamed(first, names):
        raise UsageError(f"{path}: {unnamed}", "give the lists that the ids of this file count in")
    schema = region_schema(first.features.shape[1], dtype, boxes=boxes)
    with path.open("rb") as file:
        source = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
    create_store(store, backend, schema, {"source": {"format": "lxmert-tsv", **source}}, labels)
    with open_part(store) as writer:
        if writer.finished is None:
            seen: set[str] = set()
            for row in read_tsv(path):
                _import_row(writer, row, seen, path.name, schema, names)
        return writer.finish().totals


def export_tsv(store: StoreReader, out: str | os.PathLike[str]) -> int:
    """Write a store as a TSV, whole or not at all. Returns the number of rows. Raises StoreError, UsageError."""
    path = Path(out)
    with disk.room(path.parent):
        try:
            with disk.temporary(path).open("wb") as file:
                number = write_tsv(store, file)
            disk.settle(path)
        except BaseException:
            disk.remove(disk.temporary(path))
            raise
    return number


def _import_row(
    writer: PartWriter, row: Row, seen: set[str], name: str, schema: Schema, labels: Mapping[str, Any]
) -> None:
    """Store a row, or refuse it: a bad or repeated one under its number, so that every key stays one picture."""
    problem = row.problem or (f"{row.key!r} is in an earlier row too" if row.key in seen else "")
    if row.record and not problem:
        problem = _unnamed(row.record, labels)
    key = f"row {row.number}" if problem else row.key
    seen.add(row.key)
    if key in writer.done:
        return
    try:
        if row.record is None or problem:
            raise RecordError(problem)
        writer.put(key, _cast(row.record, schema), row.number)
    except RecordError as error:
        writer.refuse(key, row.number, f"{name}, byte {row.offset}", "bad-row", error.message)


def _unnamed(record: Record, labels: Mapping[str, Any]) -> str:
    """What is wrong with the ids of a record: one that the list of names does not reach. '' when nothing is."""
    for one, kind, other in (("object", "objects", "attribute"), ("attribute", "attributes", "object")):
        names, ids = labels.get(kind) or (), record.array(f"{one}_ids")
        if names and ids.size and ids.max() >= len(names):
            return (
                f"{one} id {ids.max()} but the vocabulary has {len(names)} names: was the {other} list given as {kind}?"
            )
    return ""


def _cast(record: Record, schema: Schema) -> Record:
    """The record with features as the store has them; the length of none at all is not in the file."""
    found = record.features if len(record) else np.empty((0, schema.dim), np.float32)
    with np.errstate(over="ignore"):  # infinity is told by the record's own check
        features = found.astype(schema.fields[0].memory_dtype)
    return Record(features, record.boxes, record.size, record.count, record.extra)


def _row(number: int, offset: int, line: bytes) -> Row:
    key = ""
    try:
        columns = line.rstrip(b"\r\n").split(b"\t")
        if len(columns) != 10 or not line.endswith(b"\n"):
            raise ValueError(f"it has {len(columns)} columns of 10, or no line end: it is cut")
        key = _unquote(columns[0]).decode()
        store_key(key)
        return Row(number, offset, key, _record(columns), "")
    except (ValueError, UsageError) as error:
        what = error.message if isinstance(error, UsageError) else error
        return Row(number, offset, key, None, f"row {number}, byte {offset}: {what}")


def _record(columns: list[bytes]) -> Record:
    height, width, rows = (int(columns[place]) for place in (1, 2, 7))
    object_ids, attribute_ids = (_ids(columns[place], rows) for place in (3, 5))
    object_confs, attribute_confs = (_array(columns[place], "<f4", rows) for place in (4, 6))
    extra = dict(zip(_EXTRA, (object_ids, object_confs, attribute_ids, attribute_confs), strict=True))
    boxes, features = _array(columns[8], "<f4", rows, 4), _array(columns[9], "<f4", rows, -1)
    return Record(features, boxes, (height, width), extra=extra)


def _array(column: bytes, dtype: str, *shape: int) -> Array:
    array = np.frombuffer(base64.b64decode(column, validate=True), dtype)
    if shape[0] < 0 or (array.size and not shape[0]):
        raise ValueError(f"{array.size} numbers for {shape[0]} boxes")
    return array.reshape(shape) if shape[0] else np.empty([max(extent, 0) for extent in shape], dtype)


def _ids(column: bytes, rows: int) -> Array:
    ids = _array(column, "<i8", rows)
    if (ids != ids.astype("<i4")).any():
        raise ValueError("an id does not fit int32")
    return ids.astype("<i4")


def _line(key: str, record: Record) -> bytes:
    height, width = record.size
    ids, confs, attribute_ids, attribute_confs = (record.array(name)[: len(record)] for name in _EXTRA)
    texts = (key, height, width, len(record))
    arrays = (
        ids.astype("<i8"), confs, attribute_ids.astype("<i8"), attribute_confs,
        record.boxes[: len(record)], record.features[: len(record)].astype("<f4"),
    )  # fmt: skip
    name, *numbers = (_quote(str(value)).encode() for value in texts)
    coded = [base64.b64encode(array.tobytes()) for array in arrays]
    return b"\t".join((name, *numbers[:2], *coded[:4], numbers[2], *coded[4:])) + b"\r\n"


def _quote(value: str) -> str:
    """As Python's csv module quotes: only what needs it, and a key has no tabs or line ends."""
    return '"' + value.replace('"', '""') + '"' if '"' in value else value


def _unquote(value: bytes) -> bytes:
    return value[1:-1].replace(b'""', b'"') if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
