"""The regions of a picture from the arrays and numbers of a foreign mapping, under whichever names it has them.

ViLBERT, volta and MMF write the same things into a mapping per picture, each under names of its own. What they are
known to get wrong is met here: ``num_boxes`` is a constant or counts something else, so the rows of the boxes count;
features of regions that were dropped are still there behind the others; ``objects`` lacks the first region.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from featx.record import Record
from featx.schema import Array

HEIGHTS = ("image_h", "img_h", "image_height")
WIDTHS = ("image_w", "img_w", "image_width", "iimage_width")
KEYS = ("image_id", "img_id", "feature_path")
IDS = {"object_ids": ("obj_id", "objects_id", "objects"), "attribute_ids": ("attr_id", "attrs_id")}
CONFS = {"object_confs": ("obj_conf", "objects_conf"), "attribute_confs": ("attr_conf", "attrs_conf")}
PROBS = ("cls_prob", "soft_labels")


def first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value under the first of ``names`` that is there and is not None."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def whole(value: Any, what: str) -> int:
    """A whole number from an int, a float without fraction, an array of one of these, or digits."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if isinstance(value, str | bytes) and value.strip().isdigit() and len(value.strip()) < 16:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1 and abs(value) < 2**53:
        return int(value)
    raise ValueError(f"{what} is {value!r:.80}, expected a whole number")


def columns(value: Any) -> int:
    """How many columns an array has; 0 for what has not two axes."""
    shape = np.shape(value)
    return shape[1] if len(shape) == 2 else 0


def floats(value: Any, what: str, columns: int = 0, rows: int = 0) -> Array:
    """A float array ``[n, columns]`` from an array or from base64 of float32; ``rows`` instead where columns vary."""
    if isinstance(value, str | bytes):
        try:
            flat = np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        except ValueError as error:
            raise ValueError(f"{what} is no base64 of float32: {error}") from None
        if flat.size % (columns or rows or 1):
            raise ValueError(f"{what} has {flat.size} numbers, which do not make {rows or 'any'} rows")
        value = flat.reshape((-1, columns) if columns else (rows, flat.size // rows if rows else 0))
    array = np.asarray(value) if not isinstance(value, np.ndarray) else value
    fits = array.dtype.kind in "fiu" and array.ndim == 2 and columns in (0, *array.shape[1:])
    if not fits:
        raise ValueError(f"{what} is {array.dtype}{list(array.shape)}, expected floats [n, {columns or 'D'}]")
    kept = array.dtype.kind == "f" and array.dtype.itemsize == 2
    return _cast(array, "<f2" if kept else "<f4")


def vector(value: Any, what: str, rows: int, kind: str) -> Array:
    """An array of ``rows`` ids (int32) or numbers (float32) from an array ``[n]`` or ``[n, 1]``."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size != rows or array.ndim > 2:
        raise ValueError(f"{what} is {array.dtype}{list(array.shape)}, expected {rows} numbers")
    array = array.reshape(rows)
    if kind == "ids":
        return ids(array, what)
    return _cast(array, "<f4")


def _cast(array: Array, dtype: str) -> Array:
    """As floats; what is too large becomes infinity, which the record's own check tells."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype)


def ids(array: Array, what: str) -> Array:
    """Ids as int32. Raises ValueError for one that has a fraction or does not fit."""
    with np.errstate(invalid="ignore"):
        cast = array.astype("<i4")
    if (cast != array).any():
        raise ValueError(f"{what} holds an id that is no int32")
    return cast


def record_of(values: Mapping[str, Any], size: tuple[int, int] | None = None, background: str = "") -> Record:
    """The record of a mapping. ``size`` (height, width) counts more than what the mapping says.

    ``background="first"`` takes 1 from object and attribute ids, so that -1 is background or unknown. Raises
    ValueError, which says what is missing or does not fit.
    """
    given, features = first(values, ("boxes", "bbox")), values.get("features")
    if given is None or features is None:
        raise ValueError(f"it has no {'features' if features is None else 'boxes'}: {sorted(map(str, values))}")
    boxes = floats(given, "boxes", 4).astype("<f4")
    rows = len(boxes)
    matrix = floats(features, "features", rows=rows)
    if len(matrix) < rows:
        raise ValueError(f"it has {rows} boxes but features of {len(matrix)} regions")
    height, width = size or (whole(first(values, names), names[0]) for names in (HEIGHTS, WIDTHS))
    extra = {**_named(values, rows, background), **_scores(values, rows)}
    check_inside(boxes, height, width)
    return Record(matrix[:rows], boxes, (height, width), extra=extra)


def cls_prob_of(record: Record) -> Array | None:
    """What MMF's ``cls_prob`` is: all scores where there are some, else the highest of each region, else None."""
    return record.extra.get("class_probs", record.extra.get("object_confs"))


def written(array: Array) -> bool:
    """Whether an array holds anything but zeros, whatever its bytes are as numbers."""
    return bool(np.frombuffer(array.tobytes(), np.uint8).any())


def check_inside(boxes: Array, height: int, width: int) -> None:
    """Raise ValueError for boxes that leave the picture and would not, were its sides changed for one another."""
    far = boxes.max(0) if len(boxes) else np.zeros(4)
    if (far[2] > width + 1 or far[3] > height + 1) and far[2] <= height + 1 and far[3] <= width + 1:
        raise ValueError(f"its boxes leave {width} x {height} but fit {height} x {width}: height and width are swapped")


def _named(values: Mapping[str, Any], rows: int, background: str) -> dict[str, Array]:
    found = {}
    for name, aliases in IDS.items():
        value = first(values, aliases)
        if value is not None:
            array = np.asarray(value)
            if rows and array.shape == (rows - 1,):  # the first region was cut off instead of the first class
                array = np.concatenate(([0 if background == "first" else -1], array))
            found[name] = vector(array, aliases[-1], rows, "ids") - np.int32(background == "first")
    for name, aliases in CONFS.items():
        value = first(values, aliases)
        if value is not None:
            found[name] = vector(value, aliases[-1], rows, "numbers")
    order = ("object_ids", "object_confs", "attribute_ids", "attribute_confs")
    return {name: found[name] for name in order if name in found}


def _scores(values: Mapping[str, Any], rows: int) -> dict[str, Array]:
    """``class_probs`` [n, C]; of one number per region, those are confidences."""
    value = first(values, PROBS)
    if value is None:
        return {}
    if np.ndim(value) == 1 and not isinstance(value, str | bytes):
        return {"object_confs": vector(value, "cls_prob", rows, "numbers")}
    probs = floats(value, "cls_prob", rows=rows).astype("<f4")
    if len(probs) != rows:
        raise ValueError(f"cls_prob has {len(probs)} rows for {rows} boxes")
    return {"class_probs": probs}
