"""The folder of npz of MILVLG/bottom-up-attention.pytorch (``extract_features.py``), one per picture.

``x`` float32 [n, D], ``bbox`` float32 [n, 4] pixels, ``num_bbox``, ``image_h``, ``image_w`` and ``info``, a dict of
classes and attributes in an array of objects, which is a pickle: it is read on request only, all else without. openvqa
reads files of this kind with ``x`` [D, n], and with ``height`` and ``width``; those are read, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32
from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.options import Options
from featx.formats.regions import columns, first, record_of
from featx.formats.values import npz
from featx.formats.values.npy import dump_object
from featx.record import Record
from featx.schema import Array

_ARRAYS = ("x", "bbox")
_SIDES = {"image_h": ("image_h", "height"), "image_w": ("image_w", "width")}
_INFO = {
    "objects_id": ("object_ids", "<i8"), "objects_conf": ("object_confs", "<f4"),
    "attrs_id": ("attribute_ids", "<i8"), "attrs_conf": ("attribute_confs", "<f4"), "cls_prob": ("class_probs", "<f4"),
}  # fmt: skip


class BuaNpz(PictureFolder):
    """MILVLG's bottom-up attention."""

    name = "bua-npz"
    title = "npz folder of bottom-up-attention.pytorch"
    source = "MILVLG/bottom-up-attention.pytorch, extract_features.py"
    losses = (
        "the order of the pictures is that of their names",
        "classes and attributes are a pickle: without --allow-pickle they are left out",
        "reading: of its detectron2 mode, which has scores of all attributes in the place of ids, no attributes",
        FLOAT32,
    )
    pickled = "part"
    takes = frozenset({"key", "sizes", "background", "allow_pickle"})
    ending = ".npz"

    def fits(self, place: Path) -> bool:
        return set(_ARRAYS) <= npz.names(io.BytesIO(content(place)))

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        [place] = self.places(root, name)
        sides = [side for names in _SIDES.values() for side in names]
        wanted = [*_ARRAYS, *sides, *(["info"] if options.allow_pickle else [])]
        try:
            found = npz.arrays(io.BytesIO(content(place)), wanted, pickled=("info",))
        except UsageError as error:  # its detectron2 mode pickles tensors
            raise ValueError(f"{error.message}; without --allow-pickle all but its classes is read") from None
        return _record(found, size, options.background)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        yield key + self.ending, npz.pack(_members(key, record))


def _record(found: Mapping[str, Array], size: tuple[int, int] | None, background: str) -> Record:
    if missing := [name for name in _ARRAYS if name not in found]:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    x, boxes = (found[name] for name in _ARRAYS)
    if x.ndim == boxes.ndim == 2 and x.shape[0] != len(boxes) == x.shape[1]:
        x = x.T
    sides = {name: first(found, names) for name, names in _SIDES.items()}
    if size is None and None in sides.values():
        raise ValueError("it has no image_h and image_w; --sizes tells the sizes of pictures")
    named = {name: value for name, value in _info(found).items() if name in (*_INFO, "objects")}
    if columns(named.get("attrs_id")) > 1:  # scores [n, 400]
        named = {name: value for name, value in named.items() if name not in ("attrs_id", "attrs_conf")}
    return record_of({**named, **sides, "features": x, "bbox": boxes}, size, background)


def _info(found: Mapping[str, Array]) -> Mapping[Any, Any]:
    """What ``info`` holds; nothing where it was not read."""
    if "info" not in found:
        return {}
    info = found["info"].item() if found["info"].size == 1 else None
    if not isinstance(info, dict):
        raise ValueError(f"info is {found['info'].dtype}{list(found['info'].shape)}, expected a dict")
    return info


def _members(key: str, record: Record) -> dict[str, Array | bytes]:
    height, width = record.size
    sides = {"image_h": height, "image_w": width}
    info: dict[str, Any] = {"image_id": key, **sides, "num_boxes": len(record)}
    for name, (field, dtype) in _INFO.items():
        if field in record.extra:
            info[name] = record.array(field).astype(dtype)
    return {
        "x": record.features.astype("<f4"), "bbox": record.boxes.astype("<f4"),
        **{name: np.array(value) for name, value in {"num_bbox": len(record), **sides}.items()},
        "info": dump_object(info),
    }  # fmt: skip
