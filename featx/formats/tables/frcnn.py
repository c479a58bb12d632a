"""The Arrow stream of the LXMERT demo (huggingface/transformers, ``research_projects/lxmert/extracting_data.py``).

Columns: ``attr_ids``, ``attr_probs`` float32 [36], ``boxes`` float32 [36, 4] as parts of the picture's sides,
``img_id`` int32, ``obj_ids``, ``obj_probs`` float32 [36], ``roi_features`` float32 [36, D], ``sizes`` float32 [2],
height and width of the *resized* picture, ``preds_per_image`` int32, how many of the 36 rows are real; the
others are zeros. So pixels need the sizes of the originals, which are held against the ratio of the resized sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32, Item
from featx.formats.description import Description
from featx.formats.naming import Sizes
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.regions import floats, vector, whole
from featx.formats.tables.arrow import Arrow
from featx.formats.tables.columns import array_field, features_of, grouped, lists, numbers, pyarrow, typed
from featx.record import Record
from featx.schema import Array

ROWS = 36  # MAX_DETECTIONS of the demo's configuration
_SHORT, _LONG = 800, 1333  # sides that its Preprocess resizes to, pixels
_LARGEST = 2**31 - 1
_AT_ONCE = 4096  # pictures whose rows are counted at a time
_ORDER = (
    "attr_ids", "attr_probs", "boxes", "img_id", "obj_ids", "obj_probs", "roi_features", "sizes", "preds_per_image",
)  # fmt: skip
_IDS = {
    "obj_ids": "object_ids",
    "obj_probs": "object_confs",
    "attr_ids": "attribute_ids",
    "attr_probs": "attribute_confs",
}


class HfFrcnnArrow(Arrow):
    """The LXMERT demo of transformers."""

    name = "hf-frcnn-arrow"
    title = "Arrow stream of the LXMERT demo"
    source = "huggingface/transformers, research_projects/lxmert/extracting_data.py"
    losses = (
        "keys become whole numbers; boxes are parts of the picture's sides, whose size is not in the file",
        "there are 36 regions of a picture at most",
        FLOAT32,
        "of other fields only ids and confidences of objects and attributes are in the file",
        "of a damaged file, all pictures of a batch of 1 MB in which the damage is",
    )
    takes = frozenset({"key", "sizes"})
    gives = frozenset({"ids"})
    suffix = ""
    boxes = "regressed"
    needs = "it needs img_id, boxes, roi_features, obj_ids and preds_per_image, as extracting_data.py writes them"

    def fits(self, names: Sequence[str]) -> bool:
        return {"img_id", "boxes", "roi_features", "preds_per_image"} <= {*names}

    def columns(self, names: Sequence[str], told: Description | None) -> list[str]:
        return [
            name for name in names if name in ("img_id", "boxes", "roi_features", "sizes", "preds_per_image", *_IDS)
        ]

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        Sizes.of(options).must(path)
        yield from super().read(path, options, start)

    def record(
        self, values: dict[str, Any], size: tuple[int, int] | None, told: Description | None, options: Options
    ) -> Record:  # fmt: skip
        if size is None:
            raise ValueError("the size of its picture is not among those that --sizes told")
        _check_ratio(size, values.get("sizes"))
        features, parts = floats(values.get("roi_features"), "roi_features"), floats(values.get("boxes"), "boxes", 4)
        rows, count = len(features), whole(values.get("preds_per_image"), "preds_per_image")
        if not (len(parts) == rows and 0 <= count <= rows):
            raise ValueError(f"preds_per_image is {count}, with {len(parts)} rows of boxes and {rows} of features")
        extra = {
            ours: vector(values[name], name, rows, "numbers" if "probs" in name else "ids")[:count]
            for name, ours in _IDS.items()
            if values.get(name) is not None
        }
        boxes = parts[:count].astype("<f4") * _sides(size)
        return Record(features[:count], boxes, size, extra=extra)

    def write(self, records: Records, path: Path, options: Options) -> int:
        pa, number = pyarrow(), 0
        records.need(*_IDS.values(), what=self.title)
        for key, rows in _counted(records):
            if rows > ROWS or records.number(key) > _LARGEST:
                raise UsageError(
                    f"picture {key!r} has {rows} regions and the number {records.number(key)}; "
                    f"{self.title} holds {ROWS} and {_LARGEST} at most",
                    "--boxes 36 takes fewer of a superset store, --ids FILE gives other numbers",
                )
        schema = _schema(records.schema.dim)
        with published_file(path) as file, pa.ipc.new_stream(file, schema) as out:
            for pictures in grouped(records):
                numbered = [(records.number(key), record) for key, record in pictures]
                out.write_batch(_batch(numbered, schema))
                number += len(pictures)
        return number


def _counted(records: Records) -> Iterator[tuple[str, int]]:
    """Every key with the number of its regions."""
    keys = records.keys()
    while some := list(islice(keys, _AT_ONCE)):
        yield from zip(some, records.store.row_counts(some)[:, 1].tolist(), strict=True)


def _sides(size: tuple[int, int]) -> Array:
    height, width = size
    return np.array([width, height, width, height], "<f4")


def _check_ratio(size: tuple[int, int], resized: Any) -> None:
    """Raise ValueError unless the picture, resized, would have about the sides that the file says."""
    if resized is None:
        return
    height, width = (float(side) for side in vector(resized, "sizes", 2, "numbers"))
    wanted = _resized(size)
    if min(height, width) > 0 and abs(height * wanted[1] - width * wanted[0]) > 4 * max(height, width, *wanted):
        raise ValueError(
            f"its size was told as {size[1]} x {size[0]}, but {width:.0f} x {height:.0f}, to which it was resized, "
            "have another ratio"
        )


def _resized(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width after the demo's ResizeShortestEdge: 800 at the shorter side, 1333 at most at the longer."""
    height, width = size
    scale = min(_SHORT / max(min(size), 1), _LONG / max(*size, 1))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _schema(dim: int) -> Any:
    """The columns of extracting_data.py, in its order."""
    pa, float32 = pyarrow(), np.dtype("float32")
    arrays = {"boxes": (ROWS, 4), "roi_features": (ROWS, dim)}
    lengths = {"attr_ids": ROWS, "attr_probs": ROWS, "obj_ids": ROWS, "obj_probs": ROWS, "sizes": 2}
    fields, told = [], {}
    for name in _ORDER:
        if name in arrays:
            field, told[name] = array_field(name, arrays[name], float32)
        elif name in lengths:
            field = pa.field(name, pa.list_(pa.float32(), lengths[name]))
            value = {"dtype": "float32", "_type": "Value"}
            told[name] = {"feature": value, "length": lengths[name], "_type": "Sequence"}
        else:
            field, told[name] = pa.field(name, pa.int32()), {"dtype": "int32", "_type": "Value"}
        fields.append(field)
    return pa.schema(fields, {"huggingface": features_of(told)})


def _batch(pictures: Sequence[tuple[int, Record]], schema: Any) -> Any:
    pa, records = pyarrow(), [record for _, record in pictures]
    columns: dict[str, Array] = {
        name: _padded([record.array(ours) for record in records]) for name, ours in _IDS.items()
    }
    columns["boxes"] = _padded([record.boxes / _sides(record.size) for record in records])
    columns["roi_features"] = _padded([record.features for record in records])
    columns["sizes"] = np.array([_resized(record.size) for record in records], "<f4")
    columns["img_id"] = np.array([number for number, _ in pictures], "<i4")
    columns["preds_per_image"] = np.array([len(record) for record in records], "<i4")
    return pa.record_batch([_column(pa, columns[field.name], field) for field in schema], schema)


def _padded(arrays: Sequence[Array]) -> Array:
    """``[pictures, 36, ...]`` float32, zeros behind what there is."""
    made = np.zeros((len(arrays), ROWS, *arrays[0].shape[1:]), "<f4")
    for place, array in zip(made, arrays, strict=True):
        place[: len(array)] = array
    return made


def _column(pa: Any, array: Array, field: Any) -> Any:
    made = numbers(pa, array.reshape(-1))
    if pa.types.is_fixed_size_list(field.type):
        return pa.Array.from_buffers(field.type, len(array), [None], children=[made])
    for depth in range(array.ndim - 1, 0, -1):
        count, extent = prod(array.shape[:depth]), array.shape[depth]
        made = lists(pa, np.arange(count + 1, dtype=np.int32) * np.int32(extent), made)
    return typed(made, field)
