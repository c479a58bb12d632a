"""The folders of self-critical.pytorch for bottom-up features (``scripts/make_bu_data.py``), with a file per picture.

``cocobu_att/NUMBER.npz``: ``feat`` float32 [n, D]. ``cocobu_box/NUMBER.npy``: boxes float32 [n, 4] pixels.
``cocobu_fc/NUMBER.npy``: the mean over the rows of ``feat``, float32 [D], which is not read. The number is that of the
picture in COCO. The source is the folder around them, or ``NAME_att`` itself where several lie beside one another.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featx.errors import UsageError
from featx.formats.base import FLOAT32
from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import check_inside, floats
from featx.formats.values import npz
from featx.formats.values.npy import dump, parse
from featx.record import Record

_ATT, _BOX = "_att", "_box"
_OURS = re.compile(r"cocobu_(att/[^/]+\.npz|fc/[^/]+\.npy|box/[^/]+\.npy)")


class SelfCritical(PictureFolder):
    """self-critical.pytorch, bottom-up features."""

    name = "self-critical"
    title = "folders of self-critical.pytorch"
    source = "ruotianluo/self-critical.pytorch, scripts/make_bu_data.py"
    losses = (
        "pictures have numbers for names, and the order of these as text; --ids says how a key becomes one",
        "sizes of pictures are not in the files, nor classes, attributes and confidences",
        FLOAT32,
    )
    takes = frozenset({"key", "sizes"})
    gives = frozenset({"ids"})
    ending = ".npz"
    each = 3
    sized = True

    def root(self, path: Path) -> Path:
        if path.name.endswith(_ATT):
            return path
        found = sorted(place.name for place in path.glob(f"*{_ATT}") if place.is_dir())
        if len(found) != 1:
            said = f"holds the folders {', '.join(found)}" if found else f"holds no folder NAME{_ATT}"
            raise UsageError(f"{path} {said}, expected one", f"give the folder NAME{_ATT}, with NAME{_BOX} beside it")
        return path / found[0]

    def places(self, root: Path, name: str) -> list[Path]:
        return [root / (name + self.ending), _boxes(root) / f"{name}.npy"]

    def fits(self, place: Path) -> bool:
        return _boxes(place.parent).is_dir() and "feat" in npz.names(io.BytesIO(content(place)))

    def need(self, path: Path, options: Options) -> None:
        """Without boxes there is nothing to be read."""
        if path.is_dir() and not (boxes := _boxes(self.root(path))).is_dir():
            raise UsageError(f"there is no folder {boxes}, so there are no boxes", "make_bu_data.py makes it")

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        assert size is not None
        att, box = self.places(root, name)
        found = npz.arrays(io.BytesIO(content(att)), ["feat"])
        if "feat" not in found:
            raise ValueError("it has no feat")
        boxes = floats(parse(content(box), "the boxes"), "the boxes", 4).astype("<f4")
        check_inside(boxes, *size)
        return Record(floats(found["feat"], "feat"), boxes, size)

    def check(self, records: Records) -> None:
        records.check_numbers()

    def name_of(self, key: str, records: Records) -> str:
        return super().name_of(str(records.number(key)), records)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        features = record.features.astype("<f4")
        mean = features.mean(0) if len(features) else np.zeros(features.shape[1], "<f4")
        yield f"cocobu_att/{key}.npz", npz.pack({"feat": features})
        yield f"cocobu_fc/{key}.npy", dump(mean)
        yield f"cocobu_box/{key}.npy", dump(record.boxes.astype("<f4"))

    def ours(self, name: str) -> bool:
        return _OURS.fullmatch(name) is not None


def _boxes(att: Path) -> Path:
    """The folder of boxes beside one of features."""
    return att.with_name(att.name.removesuffix(_ATT) + _BOX)
