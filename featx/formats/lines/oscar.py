"""``features.tsv`` of Oscar and VinVL (microsoft/Oscar): one line per picture, no header, ends of ``\\n``.

Columns: key, num_boxes, and base64 of float32 ``[n, D + 6]``; readers take the last column, so files with others
between exist (``oscar/datasets/oscar_tsv.py``). Those of VQA (``oscar/run_vqa.py``) are called
``*_img_frcnn_feats.tsv``, with a ``*_offset_map.json`` of where each row begins. In captioning: key and JSON
``{"num_boxes": n, "features": base64}`` (``oscar/run_captioning.py``). The six numbers behind a feature are x0/W, y0/H,
x1/W, y1/H, (x1-x0)/W and (y1-y0)/H.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featx.formats.base import FLOAT32, Item, Survey
from featx.formats.lines.index import IndexedTsv, index_of
from featx.formats.lines.oscar_beside import Beside, beside, size_by, write_beside
from featx.formats.lines.tsv import coded, first_columns, parsed
from featx.formats.lines.vinvl_objects import named, rects
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.regions import whole
from featx.record import Record
from featx.schema import Array

_GEOMETRY = 6
_NEAR = 0.01  # how far the six numbers may be from what they say of one another, in shares of the picture
_NUMBERS = "imageid2idx.json"
_MOST = 5  # columns by which a file is known; from six on it may be another's, and has to be named


class OscarTsv(IndexedTsv):
    """The features that Oscar and VinVL train on."""

    name = "oscar-tsv"
    title = "features.tsv of Oscar and VinVL"
    source = "microsoft/Oscar, oscar/datasets/oscar_tsv.py and oscar/run_captioning.py"
    losses = (
        "attributes are not in the file; sizes and classes are in hw.tsv and label.tsv beside one named features.tsv, "
        "and nowhere beside one whose name has no `feature` in it",
        "boxes are float32 shares of width and height: without label.tsv pixels come back to seven digits",
        FLOAT32,
        "reading: imageid2idx.json, VQA's offset_map.json and its features in a .pt are not read",
        "reading: .lineidx is compared with the rows, and told where it is wrong",
    )
    takes = frozenset({"key", "sizes"})
    boxes = "regressed"

    def __init__(self) -> None:
        self._beside, self._number = Beside(), -1  # of the reading that an instance is made for

    def detect(self, path: Path) -> bool:
        """By the columns of the first line, two or more, the last of which holds features and geometry."""
        columns = first_columns(path)
        if not 2 <= len(columns) <= _MOST or (len(columns) == 2 and not columns[1].startswith(b"{")):
            return False
        try:
            _matrix(columns)
        except ValueError:
            return False
        return True

    def survey(self, path: Path, options: Options) -> Survey:
        beside, found = Beside(path).facts(), super().survey(path, options)
        return Survey(found.total, {**found.facts, **({"beside": beside} if beside else {})})

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        reader = OscarTsv()
        reader._beside = Beside(path)
        return super(OscarTsv, reader).read(path, options, start)

    def need(self, path: Path, options: Options) -> None:
        if not self._beside.sizes_told:
            Sizes.of(options).must(path)

    def item(self, number: int, place: str, line: bytes, options: Options) -> Item:
        self._number = number
        return super().item(number, place, line, options)

    def key(self, columns: list[bytes], options: Options) -> str:
        if len(columns) < 2:
            raise ValueError("it has no tab: it is no such row")
        return key_of(columns[0].decode(), options)

    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        matrix, name = _matrix(columns), columns[0].decode()
        shares = matrix[:, -_GEOMETRY:-2]
        objects = self._beside.regions(self._number, name, len(matrix)) if self._beside.labelled else None
        size = Sizes.of(options).find(key) or self._beside.size(name)
        if size is None:
            size = Sizes.of(options).need(key) if objects is None else size_by(rects(objects), shares)
        height, width = size
        features = np.ascontiguousarray(matrix[:, :-_GEOMETRY])
        boxes = shares * np.array([width, height, width, height], "<f4")
        if objects is None:
            return Record(features, boxes, size)
        if not (np.abs(rects(objects) - boxes) <= 1).all():
            raise ValueError(f"the rects of its labels are not its boxes in {width} x {height} pixels")
        return Record(features, rects(objects), size, extra=named(objects, options.labels))

    def line(self, key: str, record: Record, records: Records) -> bytes:
        height, width = record.size
        shares = record.boxes / np.array([width, height, width, height], "<f8")
        sides = shares[:, 2:] - shares[:, :2]
        matrix = np.concatenate([part.astype("<f4") for part in (record.features, shares, sides)], 1)
        return b"\t".join((key.encode(), b"%d" % len(record), coded(matrix))) + b"\n"

    def beside(self, path: Path) -> list[Path]:
        more = [name for place in beside(path) if place for name in (place, index_of(place))]
        return [*super().beside(path), path.with_name(_NUMBERS), *more]

    def finish(self, records: Records, file: BinaryIO, path: Path) -> None:
        if not file.readable():
            return
        super().finish(records, file, path)
        with published_file(path.with_name(_NUMBERS)) as out:
            for number, key in enumerate(records.keys()):
                out.write(f"{', ' if number else '{'}{json.dumps(key)}: {number}".encode())
            out.write(b"}" if len(records) else b"{}")
        write_beside(records, path)


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
