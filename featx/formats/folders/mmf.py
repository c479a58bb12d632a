"""MMF's folder of npy, two files per picture (``tools/scripts/features/extract_features_vmb.py``), of which its LMDB
is made; what its script for VinVL leaves; and the one file per picture of facebookresearch/vilbert-multi-task.

``NAME.npy``: features float32 [n, D]. ``NAME_info.npy``: a dict of ``bbox`` [n, 4] pixels, ``num_boxes``, ``objects``,
``cls_prob``, ``image_width`` and ``image_height`` in an array of objects, which is a pickle. Names may have slashes.
VinVL (``extract_features_vinvl.py``): ``bbox`` is [n, 6], x0/W, y0/H, x1/W, y1/H, w/W and h/H, and the features [n,
D + 6] end in the same. ViLBERT (``script/extract_features.py``): ``NAME.npy`` alone, the dict with ``features`` in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32
from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.lmdb.mmf import info_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import HEIGHTS, WIDTHS, columns, first, floats, record_of, whole
from featx.formats.values.npy import FRONT, dump, dump_object, front_of, parse
from featx.formats.values.pickles import need_trust
from featx.record import Record
from featx.schema import Array

_INFO = "_info.npy"
_SHARES = 6  # columns of the boxes of VinVL
_ALONE = (b"bbox", b"features")  # names in the pickle of a file that has no other beside it


class MmfNpy(PictureFolder):
    """MMF, before its LMDB."""

    name = "mmf-npy"
    title = "npy folder of MMF or ViLBERT 12-in-1"
    source = (
        "facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py and extract_features_vinvl.py; "
        "facebookresearch/vilbert-multi-task, script/extract_features.py"
    )
    losses = (
        "the order of the pictures is that of their names",
        "attributes are not in the files; confidences only where there are no class_probs",
        "its frcnn script writes the sizes of the resized picture: --sizes gives the real ones",
        "reading: of its VinVL script's files features and boxes only, which are regressed (--box-kind)",
        "writing: the two files of extract_features_vmb.py",
        FLOAT32,
    )
    pickled = "all"
    takes = frozenset({"key", "sizes", "background", "allow_pickle"})
    ending = ".npy"
    each = 2
    nested = True

    def fits(self, place: Path) -> bool:
        """Whether a file has features and the one beside it objects, or one has all; nothing is unpickled."""
        if place.name.endswith(_INFO):
            place = place.with_name(place.name.removesuffix(_INFO) + self.ending)
        if front_of((data := content(place))[:FRONT]).dtype is None:
            return all(name in data for name in _ALONE)
        head = content(place.with_name(place.name.removesuffix(self.ending) + _INFO))[:FRONT]
        return front_of(head).dtype is None

    def names(self, root: Path) -> list[str]:
        """Names of all pictures, those of which one of the two files is missing among them."""
        found = (name.removesuffix(_INFO).removesuffix(self.ending) for name in self.listed(root))
        return sorted(set(found))

    def places(self, root: Path, name: str) -> list[Path]:
        return [root / (name + self.ending), root / (name + _INFO)]

    def need(self, path: Path, options: Options) -> None:
        need_trust(options, f"{path} keeps its boxes")

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        own, beside = self.places(root, name)
        if front_of((data := content(own))[:FRONT]).dtype is None:
            return record_of(_told(data, "the file"), size, options.background)
        info, features = _told(content(beside), "the info"), parse(data, "features")
        if columns(info.get("bbox")) == _SHARES:
            return _vinvl(info, floats(features, "features"), size)
        return record_of({**info, "features": features}, size, options.background)

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)

    def name_of(self, key: str, records: Records) -> str:
        if f"{key}{self.ending}".endswith(_INFO):
            raise UsageError(f"the key {key!r} would be taken for the info of another picture", "export another format")
        return super().name_of(key, records)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        yield key + self.ending, dump(record.features.astype("<f4"))
        yield key + _INFO, dump_object(info_of(record))


def _told(data: bytes, what: str) -> Mapping[Any, Any]:
    """The dict in an array of objects. Raises ValueError when there is none."""
    found = parse(data, what, allow_pickle=True)
    values = found.item() if found.size == 1 else None
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {found.dtype}{list(found.shape)}, expected a dict")
    return values


def _vinvl(info: Mapping[Any, Any], matrix: Array, size: tuple[int, int] | None) -> Record:
    """The record of features with boxes behind them, both as shares of the picture. Raises ValueError."""
    shares = floats(info["bbox"], "bbox", _SHARES)
    if matrix.shape[1] <= _SHARES or not np.array_equal(matrix[:, -_SHARES:], shares, equal_nan=True):
        raise ValueError(f"bbox is {list(shares.shape)}, but the features {list(matrix.shape)} do not end in the same")
    height, width = size or (whole(first(info, names), names[0]) for names in (HEIGHTS, WIDTHS))
    boxes = shares[:, :4].astype("<f4") * np.array([width, height, width, height], "<f4")
    return Record(np.ascontiguousarray(matrix[:, :-_SHARES]), boxes, (height, width))
