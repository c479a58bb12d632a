"""UNITER's arrays of a picture (``tools/generate_npz.py``), which its npz files and its LMDB hold.

``norm_bb`` [n, 6] is x0/W, y0/H, x1/W, y1/H, w/W, h/H, ``features`` [n, D], ``conf`` [n, 1] falling, ``soft_labels``
[n, C]: all float16. Pixels need the size of the picture and are right to 1/4096 of its sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.regions import floats, vector
from featx.record import Record
from featx.schema import Array

ARRAYS = ("norm_bb", "features", "conf", "soft_labels")
LOSSES = (
    "everything is float16; boxes are parts of the picture's sides, right to 1/4096 of them, without its size",
    "regions are sorted by confidence",
    "of classes only class_probs are in the file, no ids or attributes",
)


def record_of_dump(values: Mapping[str, Any], size: tuple[int, int], count: Any = None) -> Record:
    """The record of a picture's arrays. size: (height, width). count: of the rows that count; all unless it is an int.

    Raises ValueError for what is missing or does not fit.
    """
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


def dump_of_record(key: str, record: Record) -> dict[str, Array]:
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
