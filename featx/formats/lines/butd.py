"""The TSV of bottom-up attention (peteanderson80/bottom-up-attention, ``tools/generate_tsv.py``): no header.

Columns: image_id (a number), image_w, image_h (width first), num_boxes, boxes (float32 [n, 4], pixels x0 y0 x1 y1) and
features (float32 [n, D]), both in base64. jiasenlu/bottom-up-attention adds a seventh, cls_prob (float32 [n, C]). Line
ends are ``\\r\\n``.
"""

from __future__ import annotations

from pathlib import Path

from featx.formats.base import FLOAT32
from featx.formats.lines.tsv import TsvFormat, coded, first_columns, is_coded, unquoted
from featx.formats.naming import key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import record_of, whole
from featx.record import Record

_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
_SCORES = "cls_prob"


class ButdTsv(TsvFormat):
    """The TSV that the published COCO features came in."""

    name = "butd-tsv"
    title = "TSV of bottom-up attention"
    source = "peteanderson80/bottom-up-attention, tools/generate_tsv.py; with cls_prob: jiasenlu/bottom-up-attention"
    losses = (
        "of classes only class_probs are in the file, no ids, confidences or attributes",
        FLOAT32,
        "pictures have numbers: --key makes keys of them, --ids numbers of keys",
    )
    takes = frozenset({"key"})
    gives = frozenset({"ids"})

    def detect(self, path: Path) -> bool:
        """By the six or seven columns of the first line: three are numbers, and the boxes are as many as it says."""
        columns = first_columns(path)
        if len(columns) not in (6, 7) or not all(column.isdigit() and len(column) < 10 for column in columns[1:4]):
            return False
        return is_coded(columns[4], 16 * int(columns[3]))

    def key(self, columns: list[bytes], options: Options) -> str:
        if len(columns) not in (6, 7):
            raise ValueError(f"it has {len(columns)} columns of 6 or 7")
        return key_of(unquoted(columns[0]), options)

    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        values = dict(zip((*_COLUMNS, _SCORES), columns, strict=False))
        record = record_of(values)
        if len(record) != whole(values["num_boxes"], "num_boxes"):
            raise ValueError(f"{len(record)} boxes, num_boxes says {unquoted(values['num_boxes'])}")
        return record

    def check(self, records: Records) -> None:
        records.check_numbers()

    def line(self, key: str, record: Record, records: Records) -> bytes:
        height, width = record.size
        numbers = [b"%d" % number for number in (records.number(key), width, height, len(record))]
        scores = [coded(record.class_probs)] if "class_probs" in record.extra else []
        return b"\t".join([*numbers, coded(record.boxes), coded(record.features), *scores]) + b"\r\n"
