"""MMF's LMDB (facebookresearch/mmf, ``tools/scripts/features/lmdb_conversion.py``) of npy files and their ``_info``.

The key is the relative path without ``.npy``. ``cls_prob`` is [n, 1601], or [n] in the files of its frcnn script, which
also keeps the features of regions that it drops, and writes the sizes of the *resized* picture: give the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featx.formats.base import FLOAT32
from featx.formats.lmdb.pickled import PickledLmdb
from featx.formats.records import Records
from featx.formats.regions import cls_prob_of
from featx.record import Record


class MmfLmdb(PickledLmdb):
    """MMF."""

    name = "mmf-lmdb"
    title = "LMDB of MMF"
    source = "facebookresearch/mmf, tools/scripts/features/lmdb_conversion.py"
    losses = (
        "attributes are not in the file; confidences only where there are no class_probs",
        "its frcnn script writes the sizes of the resized picture: --sizes gives the real ones",
        FLOAT32,
    )
    marks = (b"feature_path", b"features")
    absent = (b"img_h",)

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)

    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        return {"feature_path": key, "features": record.features.astype("<f4"), **info_of(record)}


def info_of(record: Record) -> dict[str, Any]:
    """What MMF keeps of a picture besides its features."""
    height, width = record.size
    return {
        "image_height": height, "image_width": width, "num_boxes": len(record),
        "objects": record.object_ids.astype("<i8"), "cls_prob": cls_prob_of(record), "bbox": record.boxes.astype("<f4"),
    }  # fmt: skip
