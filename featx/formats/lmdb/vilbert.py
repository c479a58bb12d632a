"""ViLBERT's LMDB, of both generations: the base64 of the TSV, and numpy arrays.

jiasenlu/vilbert_beta ``script/convert_*_lmdb.py``: the csv row as it was, all texts. facebookresearch/
vilbert-multi-task ``script/convert_to_lmdb.py``: arrays. Either is read whichever one was named: what ``features`` is
decides. There, ``num_boxes`` counts something else than rows at times, so the rows of the boxes count.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from featx.formats.base import FLOAT32
from featx.formats.lmdb.pickled import PickledLmdb
from featx.record import Record
from featx.schema import Array

_SCORES = "class_probs"


class VilbertLmdb(PickledLmdb):
    """ViLBERT, 12-in-1."""

    name = "vilbert-lmdb"
    title = "LMDB of ViLBERT 12-in-1"
    source = "facebookresearch/vilbert-multi-task, script/convert_to_lmdb.py"
    losses = (
        "class and attribute ids and confidences are not in the file",
        FLOAT32,
    )
    marks = (b"image_id", b"image_h", b"image_w", b"num_boxes", b"boxes", b"features", b"numpy")

    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        height, width = record.size
        return {
            "image_id": key, "image_h": height, "image_w": width, "num_boxes": len(record),
            "boxes": record.boxes.astype("<f4"), "features": record.features.astype("<f4"),
        }  # fmt: skip


class VilbertBetaLmdb(PickledLmdb):
    """The first ViLBERT."""

    name = "vilbert-beta-lmdb"
    title = "LMDB of the first ViLBERT"
    source = "jiasenlu/vilbert_beta, script/convert_trainval_lmdb.py"
    losses = (
        "of classes only class_probs are in the file, no ids, confidences or attributes",
        FLOAT32,
    )
    marks = (b"image_id", b"image_h", b"image_w", b"num_boxes", b"boxes", b"features")
    absent = (b"numpy", b"img_h")

    def value(self, key: str, record: Record) -> Mapping[str, Any]:
        height, width = record.size
        scores = {"cls_prob": _text(record.class_probs)} if _SCORES in record.extra else {}
        return {
            "image_id": key, "image_w": str(width), "image_h": str(height), "num_boxes": str(len(record)),
            "boxes": _text(record.boxes), "features": _text(record.features), **scores,
        }  # fmt: skip


def _text(array: Array) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode()
