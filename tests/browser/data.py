"""Small stores whose boxes are known by heart: 36 boxes on a lattice, a grid of cells, one without names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featx.record import Record
from featx.schema import Array, Field, Schema, region_schema
from featx.store import create_store, open_part, open_store
from featx.store.reader import StoreReader

WIDTH, HEIGHT, SHIFT = 480, 360, 6
LABELS = {"objects": ["car,auto", "dog", "<b>tree</b>"], "attributes": ["red", "wet"]}
STRANGE = "zürich/été 100%?#"
KEYS = [*(f"photo {number:03d}" for number in range(1, 131)), STRANGE]


def boxes() -> Array:
    """36 boxes, float32: one in each tile of 80 x 60 pixels, 60 x 36 large; number 7 lies within number 0's tile."""
    corners = np.array([[80 * x + 8, 60 * y + 10] for y in range(6) for x in range(6)], np.float32)
    found = np.concatenate([corners, corners + np.array([60, 36], np.float32)], axis=1)
    found[7] = [20, 20, 40, 34]  # inside box 0: 8 10 68 46
    return found


def confidences() -> Array:
    """Of the 36 objects, box 0 the surest."""
    return np.linspace(0.99, 0.10, 36, dtype=np.float32)


def regions(features: Array) -> Record:
    extra = {
        "object_ids": (np.arange(36) % 3).astype(np.int32),
        "object_confs": confidences(),
        "attribute_ids": (np.arange(36) % 2).astype(np.int32),
        "attribute_confs": np.full(36, 0.5, np.float32),
        "regressed_boxes": boxes() + np.float32(SHIFT),
    }
    return Record(features, boxes(), (HEIGHT, WIDTH), extra=extra)


def features(dtype: str, rows: int = 36) -> Array:
    values = np.random.default_rng(5).normal(size=(rows, 8))
    return values.astype(np.float16 if dtype == "float16" else np.float32)


def region_store(path: Path, dtype: str = "float16", keys: Sequence[str] = KEYS,
                 labels: Mapping[str, Any] | None = LABELS) -> StoreReader:  # fmt: skip
    schema = region_schema(8, dtype, rows=36, other="regressed_boxes")
    return stored(path, schema, {key: regions(features(dtype)) for key in keys}, labels or {})


def grid_store(path: Path) -> StoreReader:
    """3 lines of 4 cells and a class token before them."""
    schema = Schema((Field("features", "float32", (8,)), Field("boxes", "float32", (4,))), "grid", "grid", 13)
    cells = [[120 * x, 120 * y, 120 * x + 120, 120 * y + 120] for y in range(3) for x in range(4)]
    record = Record(features("float32", 13), np.array([[0, 0, WIDTH, HEIGHT], *cells], np.float32), (HEIGHT, WIDTH))
    return stored(path, schema, {"photo 001": record, "photo 002": record}, {})


def stored(path: Path, schema: Schema, records: Mapping[str, Record], labels: Mapping[str, Any]) -> StoreReader:
    create_store(path, "lmdb", schema, {"extractor": "frcnn", "profile": {"name": "demo"}}, labels)
    with open_part(path) as writer:
        for ordinal, (key, record) in enumerate(records.items()):
            writer.put(key, record, ordinal)
        if records and next(iter(records)) == KEYS[0]:
            writer.refuse("broken", len(records), "broken.jpg", "truncated", "the file ends early")
        writer.finish()
    return open_store(path)


def picture() -> Array:
    """A plain picture, uint8 RGB: everything on it that is not this grey was drawn by the page."""
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
