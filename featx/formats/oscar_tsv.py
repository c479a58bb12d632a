"""``features.tsv`` of Oscar and VinVL (microsoft/Oscar): one line per picture, no header, ends of ``\\n``.

Columns: key, num_boxes, and base64 of float32 ``[n, D + 6]``; readers take the last column, so files with others
between exist (``oscar/datasets/oscar_tsv.py``). In captioning: key and JSON ``{"num_boxes": n, "features": base64}``
(``oscar/run_captioning.py``). The six numbers behind a feature are x0/W, y0/H, x1/W, y1/H, (x1-x0)/W and (y1-y0)/H.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featx.delivery import delivery
from featx.formats.line_index import IndexedTsv
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import whole
from featx.formats.tsv import coded, first_columns, parsed
from featx.record import Record
from featx.schema import Array

_GEOMETRY = 6
_NEAR = 0.01  # how far the six numbers may be from what they say of one another, in shares of the picture
_NUMBERS = "imageid2idx.json"


class OscarTsv(IndexedTsv):
    """The features that Oscar and VinVL train on."""

    name = "oscar-tsv"
    title = "features.tsv of Oscar and VinVL"
    source = "microsoft/Oscar, oscar/datasets/oscar_tsv.py and oscar/run_captioning.py"
    losses = (
        "class and attribute ids and confidences are not in the file, nor are sizes",
        "boxes are float32 shares of width and height: pixels come back to seven digits",
        "features are float32; of int8 and bfloat16 that is exact",
        "reading: imageid2idx.json is not read; .lineidx is compared with the rows, and told where it is wrong",
    )
    takes = frozenset({"key", "sizes"})
    boxes = "regressed"

    def detect(self, path: Path) -> bool:
        """By the two or three columns of the first line, the last of which holds features and geometry."""
        columns = first_columns(path)
        if len(columns) not in (2, 3) or (len(columns) == 2 and not columns[1].startswith(b'{"num_boxes"')):
            return False
        try:
            _matrix(columns)
        except ValueError:
            return False
        return True

    def need(self, path: Path, options: Options) -> None:
        Sizes.of(options).must(path)

    def key(self, columns: list[bytes], options: Options) -> str:
        if len(columns) < 2:
            raise ValueError("it has no tab: it is no such row")
        return key_of(columns[0].decode(), options)

    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        height, width = Sizes.of(options).need(key)
        matrix = _matrix(columns)
        with np.errstate(invalid="ignore", over="ignore"):  # told by the record's own check
            boxes = matrix[:, -_GEOMETRY:-2] * np.array([width, height, width, height], "<f4")
        return Record(np.ascontiguousarray(matrix[:, :-_GEOMETRY]), boxes, (height, width))

    def line(self, key: str, record: Record, records: Records) -> bytes:
        height, width = record.size
        shares = record.boxes / np.array([width, height, width, height], "<f4")
        sides = shares[:, 2:] - shares[:, :2]
        matrix = np.concatenate([record.features.astype("<f4"), shares, sides], 1)
        return b"\t".join((key.encode(), b"%d" % len(record), coded(matrix))) + b"\n"

    def beside(self, path: Path) -> list[Path]:
        return [*super().beside(path), path.with_name(_NUMBERS)]

    def finish(self, records: Records, file: BinaryIO, path: Path) -> None:
        if not file.readable():
            return
        super().finish(records, file, path)
        with delivery(str(path.with_name(_NUMBERS))) as out:
            for number, key in enumerate(records.keys()):
                out.write(f"{', ' if number else '{'}{json.dumps(key)}: {number}".encode())
            out.write(b"}" if len(records) else b"{}")


def _matrix(columns: list[bytes]) -> Array:
    """Features and geometry ``[n, D + 6]`` float32 of a row. Raises ValueError."""
    count, content = (columns[1], columns[-1]) if len(columns) > 2 else _captioning(columns[1])
    rows = whole(count, "num_boxes")
    numbers = np.frombuffer(base64.b64decode(content, validate=True), "<f4")
    each = numbers.size // rows if rows else _GEOMETRY
    if rows * each != numbers.size or each < _GEOMETRY:
        raise ValueError(f"{numbers.size} numbers for {rows} boxes, expected {_GEOMETRY} and a feature for each")
    matrix = numbers.reshape(rows, each)
    shares = matrix[:, -_GEOMETRY:]
    with np.errstate(invalid="ignore", over="ignore"):
        if not (np.abs(shares[:, 2:4] - shares[:, :2] - shares[:, 4:]) <= _NEAR).all():
            raise ValueError("the last six numbers of a region are not its place in shares of the picture")
    return matrix


def _captioning(column: bytes) -> tuple[Any, Any]:
    found = parsed(column)
    if not isinstance(found, dict) or not {"num_boxes", "features"} <= set(found):
        raise ValueError("its second column has no num_boxes and features")
    if not isinstance(found["features"], str):
        raise ValueError("its features are no text")
    return found["num_boxes"], found["features"]
