"""The TSV of LXMERT (airsplay/lxmert, ``src/utils.py``): one line per picture, arrays in base64, no header.

Columns: img_id, img_h, img_w, objects_id (int64), objects_conf (float32), attrs_id (int64), attrs_conf (float32),
num_boxes, boxes (float32 [n, 4], pixels x0 y0 x1 y1), features (float32 [n, D]). Line ends are ``\\r\\n``. Ids fit
int32 and are held as such; everything else is kept to the bit, so a float32 store gives the file back byte for byte.
LXMERT asserts that boxes lie within the picture; those of a store may leave it by a pixel, and are clipped on writing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.formats.base import FLOAT32
from featx.formats.lines.tsv import TsvFormat, array, coded, first_columns, quoted, unquoted
from featx.formats.naming import checked
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import whole
from featx.record import Record
from featx.schema import Array

_EXTRA = ("object_ids", "object_confs", "attribute_ids", "attribute_confs")
_COLUMNS = 10


class LxmertTsv(TsvFormat):
    """LXMERT's TSV."""

    name = "lxmert-tsv"
    title = "LXMERT TSV"
    source = "airsplay/lxmert, src/utils.py (load_obj_tsv)"
    losses = (
        "padding rows are not written",
        "boxes that leave the picture are clipped to it, as LXMERT asserts that none does",
        FLOAT32,
    )
    suffix = ".tsv"

    def detect(self, path: Path) -> bool:
        """By the ten columns of the first line, three of them numbers."""
        columns = first_columns(path)
        return len(columns) == _COLUMNS and all(columns[place].isdigit() for place in (1, 2, 7))

    def key(self, columns: list[bytes], options: Options) -> str:
        if len(columns) != _COLUMNS:
            raise ValueError(f"it has {len(columns)} columns of {_COLUMNS}")
        return checked(unquoted(columns[0]))

    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        height, width = whole(columns[1], "img_h"), whole(columns[2], "img_w")
        rows = int(columns[7])
        object_ids, attribute_ids = (_ids(columns[place], rows) for place in (3, 5))
        object_confs, attribute_confs = (array(columns[place], "<f4", rows) for place in (4, 6))
        extra = dict(zip(_EXTRA, (object_ids, object_confs, attribute_ids, attribute_confs), strict=True))
        boxes, features = array(columns[8], "<f4", rows, 4), array(columns[9], "<f4", rows, -1)
        return Record(features, boxes, (height, width), extra=extra)

    def check(self, records: Records) -> None:
        records.need(*_EXTRA, what=self.title)

    def line(self, key: str, record: Record, records: Records) -> bytes:
        height, width = record.size
        ids, confs, attribute_ids, attribute_confs = (record.array(name) for name in _EXTRA)
        arrays = [coded(ids, "<i8"), coded(confs), coded(attribute_ids, "<i8"), coded(attribute_confs)]
        boxes = np.clip(record.boxes, 0, np.array([width, height, width, height], "<f4"))
        rest = [b"%d" % len(record), coded(boxes), coded(record.features)]
        return b"\t".join([quoted(key), b"%d" % height, b"%d" % width, *arrays, *rest]) + b"\r\n"


def _ids(column: bytes, rows: int) -> Array:
    ids = array(column, "<i8", rows)
    if (ids != ids.astype("<i4")).any():
        raise ValueError("an id does not fit int32")
    return ids.astype("<i4")
