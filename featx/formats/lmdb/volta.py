"""volta's LMDB (e-bug/volta, ``features_extraction``): from its HDF5 (``h5_to_lmdb.py``), and from MMF's npy.

The second (``npy_to_lmdb.py``) has features and boxes as base64 and MMF's classes. Both are read under either name.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from featx.formats.base import FLOAT32
from featx.formats.lmdb.pickled import PickledLmdb
from featx.formats.records import Records
from featx.formats.regions import cls_prob_of
from featx.record import Record

FIELDS = {
    "obj_id": "object_ids", "obj_conf": "object_confs", "attr_id": "attribute_ids", "attr_conf": "attribute_confs",
}  # fmt: skip


class VoltaLmdb(PickledLmdb):
    """volta, by ``h5_to_lmdb.py``."""

    name = "volta-lmdb"
    title = "LMDB of volta"
    source = "e-bug/volta, features_extraction/h5_to_lmdb.py"
    losses = (FLOAT32, "class_probs are not in the file")
    marks = (b"img_id", b"img_h", b"img_w", b"obj_id", b"boxes", b"features")
    boxes = "regressed"

    def check(self, records: Records) -> None:
        records.need(*FIELDS.values(), what=self.title)

    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        height, width = record.size
        return {"features": record.features.astype("<f4"), **volta_fields(record), "boxes": record.boxes.astype("<f4"),
                "img_w": width, "img_h": height, "img_id": key}  # fmt: skip


class VoltaNpyLmdb(PickledLmdb):
    """volta, by ``npy_to_lmdb.py``."""

    name = "volta-npy-lmdb"
    title = "LMDB of volta, from npy"
    source = "e-bug/volta, features_extraction/npy_to_lmdb.py"
    losses = (
        "attributes are not in the file; confidences only where there are no class_probs",
        FLOAT32,
    )
    marks = (b"feature_path", b"img_h", b"img_w", b"boxes", b"features")

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)

    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        height, width = record.size
        coded = {name: base64.b64encode(record.array(name).astype("<f4").tobytes()) for name in ("features", "boxes")}
        return {
            "feature_path": key, "features": coded["features"], "img_h": height, "img_w": width,
            "num_boxes": len(record), "objects": record.object_ids.astype("<i8"), "cls_prob": cls_prob_of(record),
            "boxes": coded["boxes"],
        }  # fmt: skip


def volta_fields(record: Record) -> dict[str, Any]:
    """Ids as int64 and confidences as float32, under volta's names."""
    return {ours: record.array(field).astype("<i8" if ours.endswith("id") else "<f4") for ours, field in FIELDS.items()}
