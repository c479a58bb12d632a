"""``predictions.tsv`` of VinVL (microsoft/scene_graph_benchmark, ``maskrcnn_benchmark/engine/inference.py``).

One line per picture: key and JSON ``{"objects": [...], "relations": ...}``. An object has rect (x0 y0 x1 y1, pixels of
the original), bbox_id, class (its name), conf, feature (base64 of float32) and, where they were saved, attributes
(names) and attr_scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32
from featx.formats.lines.index import IndexedTsv
from featx.formats.lines.tsv import coded, first_columns, parsed
from featx.formats.lines.vinvl_objects import attributes, mappings, name_of, named, rects, text, told
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import floats
from featx.record import Record


class VinvlTsv(IndexedTsv):
    """What VinVL's detector writes."""

    name = "vinvl-tsv"
    title = "predictions.tsv of VinVL"
    source = "microsoft/scene_graph_benchmark, maskrcnn_benchmark/engine/inference.py (convert_predictions_to_tsv)"
    losses = (
        "classes are named: reading makes ids of the names that --objects and --attributes list, and none without",
        "one attribute of each region is kept, the surest, or -1 for none; relations and other classes' scores are not",
        "sizes are not in the file",
        FLOAT32,
    )
    takes = frozenset({"key", "sizes"})
    boxes = "regressed"

    def detect(self, path: Path) -> bool:
        """By the two columns of the first line, the second of which is JSON with objects."""
        columns = first_columns(path)
        try:
            return len(columns) == 2 and isinstance(_objects(columns[1]), list)
        except ValueError:
            return False

    def need(self, path: Path, options: Options) -> None:
        Sizes.of(options).must(path)

    def key(self, columns: list[bytes], options: Options) -> str:
        if len(columns) != 2:
            raise ValueError(f"it has {len(columns)} columns of 2")
        return key_of(columns[0].decode(), options)

    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        size, objects = Sizes.of(options).need(key), _objects(columns[1])
        rows = [floats(text(one, "feature"), "feature", rows=1)[0] for one in objects]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("its features differ in length")
        extra = named(objects, options.labels)
        if "attributes" in options.labels:
            extra.update(attributes(objects, options.labels["attributes"]))
        features = np.array(rows, "<f4").reshape(len(rows), -1 if rows else 0)
        return Record(features, rects(objects), size, extra=extra)

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)
        if not records.labels.get("objects"):
            raise UsageError(f"the store has no names of its classes; {self.title} needs them", "export another format")

    def line(self, key: str, record: Record, records: Records) -> bytes:
        regions = [_region(record, row, records.labels) for row in range(len(record))]
        return b"\t".join((key.encode(), json.dumps({"objects": regions, "relations": None}).encode())) + b"\n"


def _region(record: Record, row: int, labels: Mapping[str, Any]) -> dict[str, Any]:
    """One object of the JSON."""
    made = {**told(record, row, labels), "bbox_id": row}
    if "attribute_ids" in record.extra and labels.get("attributes"):
        number = record.extra["attribute_ids"][row]
        made["attributes"] = [] if number < 0 else [name_of(labels["attributes"], number)]
        if "attribute_confs" in record.extra:
            made["attr_scores"] = [] if number < 0 else [float(record.extra["attribute_confs"][row])]
    made["feature"] = coded(record.features[row]).decode()
    return made


def _objects(column: bytes) -> list[dict[str, Any]]:
    found = parsed(column)
    return mappings(found.get("objects") if isinstance(found, dict) else None)
