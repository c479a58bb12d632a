"""The TSV of LXMERT (airsplay/lxmert, ``src/utils.py``): one line per picture, arrays in base64, no header.

Columns: img_id, img_h, img_w, objects_id (int64), objects_conf (float32), attrs_id (int64), attrs_conf (float32),
num_boxes, boxes (float32 [n, 4], pixels x0 y0 x1 y1), features (float32 [n, D]). Line ends are ``\\r\\n``. Ids fit
int32 and are held as such; everything else is kept to the bit, so a float32 store gives the file back byte for byte.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from featx.codec import store_key
from featx.delivery import delivery
from featx.errors import UsageError
from featx.formats.base import Format, Item, Survey
from featx.formats.identity import file_facts
from featx.formats.options import Options
from featx.formats.records import Records
from featx.record import Record
from featx.schema import Array

_EXTRA = ("object_ids", "object_confs", "attribute_ids", "attribute_confs")
_LONGEST_ROW = 256 << 20  # bytes; what has no line end until then is not such a file


class LxmertTsv(Format):
    """LXMERT's TSV."""

    name = "lxmert-tsv"
    title = "LXMERT TSV"
    source = "airsplay/lxmert, src/utils.py (load_obj_tsv)"
    losses = ("padding rows are not written", "features are float32; of int8 and bfloat16 that is exact")
    suffix = ".tsv"

    def detect(self, path: Path) -> bool:
        """By the ten columns of the first line, three of them numbers."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            columns = file.readline(_LONGEST_ROW).split(b"\t")
        return len(columns) == 10 and all(columns[place].isdigit() for place in (1, 2, 7))

    def survey(self, path: Path, options: Options) -> Survey:
        return Survey(None, file_facts(path))

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        return read_tsv(path, start)

    def write(self, records: Records, path: Path, options: Options) -> int:
        records.need(*_EXTRA, what=self.title)
        with delivery(str(path)) as file:
            return write_tsv(records, file)


def read_tsv(path: str | os.PathLike[str], start: int = 0) -> Iterator[Item]:
    """The rows of a file from number ``start`` on, one in memory at a time. A bad row is an item with a ``problem``;
    reading goes on behind it.
    """
    number = offset = 0
    with Path(path).open("rb") as file:
        while line := file.readline(_LONGEST_ROW):
            if line.strip():
                if number >= start:
                    yield _item(number, f"byte {offset}", line)
                number += 1
            offset += len(line)


def write_tsv(records: Iterable[tuple[str, Record]], out: BinaryIO) -> int:
    """Write (key, record) pairs that have no padding. Returns their number."""
    number = 0
    for key, record in records:
        out.write(_line(key, record))
        number += 1
    return number


def _item(number: int, place: str, line: bytes) -> Item:
    key = ""
    try:
        columns = line.rstrip(b"\r\n").split(b"\t")
        if len(columns) != 10 or not line.endswith(b"\n"):
            raise ValueError(f"it has {len(columns)} columns of 10, or no line end: it is cut")
        key = _unquote(columns[0]).decode()
        store_key(key)
        return Item(number, place, key, _record(columns))
    except (ValueError, UsageError) as error:
        return Item(number, place, key, None, error.message if isinstance(error, UsageError) else str(error))


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
    ids, confs, attribute_ids, attribute_confs = (record.array(name) for name in _EXTRA)
    texts = (key, height, width, len(record))
    arrays = (
        ids.astype("<i8"), confs, attribute_ids.astype("<i8"), attribute_confs,
        record.boxes, record.features.astype("<f4"),
    )  # fmt: skip
    name, *numbers = (_quote(str(value)).encode() for value in texts)
    coded = [base64.b64encode(array.tobytes()) for array in arrays]
    return b"\t".join((name, *numbers[:2], *coded[:4], numbers[2], *coded[4:])) + b"\r\n"


def _quote(value: str) -> str:
    """As Python's csv module quotes: only what needs it, and a key has no tabs or line ends."""
    return '"' + value.replace('"', '""') + '"' if '"' in value else value


def _unquote(value: bytes) -> bytes:
    return value[1:-1].replace(b'""', b'"') if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
