"""``predictions.tsv`` of VinVL (microsoft/scene_graph_benchmark, ``maskrcnn_benchmark/engine/inference.py``).

One line per picture: key and JSON ``{"objects": [...], "relations": ...}``. An object has rect (x0 y0 x1 y1, pixels of
the original), bbox_id, class (its name), conf, feature (base64 of float32) and, where they were saved, attributes
(names) and attr_scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.line_index import IndexedTsv
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import floats
from featx.formats.tsv import coded, first_columns, parsed
from featx.record import Record
from featx.schema import Array

_MOST = float(np.finfo(np.float32).max)


class VinvlTsv(IndexedTsv):
    """What VinVL's detector writes."""

    name = "vinvl-tsv"
    title = "predictions.tsv of VinVL"
    source = "microsoft/scene_graph_benchmark, maskrcnn_benchmark/engine/inference.py (convert_predictions_to_tsv)"
    losses = (
        "classes are named: reading makes ids of the names that --objects and --attributes list, and none without",
        "one attribute of each region is kept, the surest, or -1 for none; relations and other classes' scores are not",
        "sizes are not in the file",
        "features are float32; of int8 and bfloat16 that is exact",
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
        boxes = np.array([_numbers(one, "rect", 4) for one in objects], "<f4").reshape(-1, 4)
        rows = [floats(_text(one, "feature"), "feature", rows=1)[0] for one in objects]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("its features differ in length")
        extra: dict[str, Array] = {}
        if "objects" in options.labels:
            names = [_text(one, "class") for one in objects]
            extra["object_ids"] = _ids(names, options.labels["objects"], "class")
        if all("conf" in one for one in objects):
            extra["object_confs"] = np.array([_number(one["conf"], "conf") for one in objects], "<f4")
        if "attributes" in options.labels:
            best = [_surest(one) for one in objects]
            extra["attribute_ids"] = _ids([name for name, _ in best], options.labels["attributes"], "attribute")
            extra["attribute_confs"] = np.array([conf for _, conf in best], "<f4")
        return Record(np.array(rows, "<f4").reshape(len(rows), -1 if rows else 0), boxes, size, extra=extra)

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)
        if not records.labels.get("objects"):
            raise UsageError(f"the store has no names of its classes; {self.title} needs them", "export another format")

    def line(self, key: str, record: Record, records: Records) -> bytes:
        regions = [_region(record, row, records.labels) for row in range(len(record))]
        return b"\t".join((key.encode(), json.dumps({"objects": regions, "relations": None}).encode())) + b"\n"


def _region(record: Record, row: int, labels: Mapping[str, Any]) -> dict[str, Any]:
    """One object of the JSON. A float32 is written as the double that it is, so that it comes back."""
    made: dict[str, Any] = {
        "rect": [float(side) for side in record.boxes[row]], "bbox_id": row,
        "class": _name(labels["objects"], record.extra["object_ids"][row]),
    }  # fmt: skip
    if "object_confs" in record.extra:
        made["conf"] = float(record.extra["object_confs"][row])
    if "attribute_ids" in record.extra and labels.get("attributes"):
        number = record.extra["attribute_ids"][row]
        made["attributes"] = [] if number < 0 else [_name(labels["attributes"], number)]
        if "attribute_confs" in record.extra:
            made["attr_scores"] = [] if number < 0 else [float(record.extra["attribute_confs"][row])]
    made["feature"] = coded(record.features[row]).decode()
    return made


def _name(names: Sequence[str], number: int) -> str:
    if not 0 <= number < len(names):
        raise UsageError(f"id {number} has no name among the {len(names)} of the store", "export another format")
    return names[number]


def _objects(column: bytes) -> list[dict[str, Any]]:
    found = parsed(column)
    objects = found.get("objects") if isinstance(found, dict) else None
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise ValueError("its second column is no JSON with a list of objects")
    return objects


def _surest(one: dict[str, Any]) -> tuple[str | None, float]:
    """The attribute with the highest score, and that; None and 0 of an object without. Raises ValueError."""
    names, scores = one.get("attributes", []), one.get("attr_scores", [])
    if not (isinstance(names, list) and isinstance(scores, list) and len(names) == len(scores)):
        raise ValueError("an object has not a score for each attribute")
    if not names:
        return None, 0.0
    confs = [_number(score, "attr_scores") for score in scores]
    place = int(np.argmax(confs))
    if not isinstance(names[place], str):
        raise ValueError(f"an attribute is {names[place]!r:.80}, expected a name")
    return names[place], confs[place]


def _ids(names: Sequence[str | None], known: Sequence[str], what: str) -> Array:
    """The numbers of names; -1 for None. Raises ValueError for one that is not known."""
    numbers = _index(tuple(known))
    unknown = [name for name in names if name is not None and name not in numbers]
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r:.80} is not in the list of names that was given")
    return np.array([-1 if name is None else numbers[name] for name in names], "<i4")


@lru_cache(maxsize=4)
def _index(names: tuple[str, ...]) -> dict[str, int]:
    """The number of each name; of one that is listed twice, the first."""
    return {name: number for number, name in reversed(list(enumerate(names)))}


def _text(one: dict[str, Any], name: str) -> str:
    value = one.get(name)
    if not isinstance(value, str):
        raise ValueError(f"an object has the {name} {value!r:.80}, expected text")
    return value


def _numbers(one: dict[str, Any], name: str, count: int) -> list[float]:
    value = one.get(name)
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"an object has the {name} {value!r:.80}, expected {count} numbers")
    return [_number(number, name) for number in value]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST:
        raise ValueError(f"{name} holds {value!r:.80}, expected a number")
    return float(value)
