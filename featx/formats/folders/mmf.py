"""MMF's folder of npy, two files per picture (``tools/scripts/features/extract_features_vmb.py``), of which its LMDB
is made.

``NAME.npy``: features float32 [n, D]. ``NAME_info.npy``: a dict of ``bbox`` [n, 4] pixels, ``num_boxes``, ``objects``,
``cls_prob``, ``image_width`` and ``image_height`` in an array of objects, which is a pickle. Names may have slashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from featx.errors import UsageError
from featx.formats.folders.pictures import PictureFolder, content
from featx.formats.lmdb.mmf import info_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import record_of
from featx.formats.values.npy import FRONT, dump, dump_object, front_of, parse
from featx.formats.values.pickles import need_trust
from featx.record import Record

_INFO = "_info.npy"


class MmfNpy(PictureFolder):
    """MMF, before its LMDB."""

    name = "mmf-npy"
    title = "npy folder of MMF"
    source = "facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py"
    losses = (
        "the order of the pictures is that of their names",
        "attributes are not in the files; confidences only where there are no class_probs",
        "its frcnn script writes the sizes of the resized picture: --sizes gives the real ones",
        "features are float32; of int8 and bfloat16 that is exact",
    )
    pickled = "all"
    takes = frozenset({"key", "sizes", "background", "allow_pickle"})
    ending = ".npy"
    each = 2
    nested = True

    def fits(self, place: Path) -> bool:
        """Whether a file has features and another beside it an array of objects; nothing is unpickled."""
        if place.name.endswith(_INFO):
            place = place.with_name(place.name.removesuffix(_INFO) + self.ending)
        head = content(place.with_name(place.name.removesuffix(self.ending) + _INFO))[:FRONT]
        return front_of(head).dtype is None and front_of(content(place)[:FRONT]).dtype is not None

    def names(self, root: Path) -> list[str]:
        """Names of all pictures, those of which one of the two files is missing among them."""
        found = (name.removesuffix(_INFO).removesuffix(self.ending) for name in self.listed(root))
        return sorted(set(found))

    def places(self, root: Path, name: str) -> list[Path]:
        return [root / (name + self.ending), root / (name + _INFO)]

    def need(self, path: Path, options: Options) -> None:
        need_trust(options, f"{path} keeps its boxes")

    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        features, told = (content(place) for place in self.places(root, name))
        info = parse(told, "the info", allow_pickle=True)
        values = info.item() if info.size == 1 else None
        if not isinstance(values, dict):
            raise ValueError(f"the info is {info.dtype}{list(info.shape)}, expected a dict")
        return record_of({**values, "features": parse(features, "features")}, size, options.background)

    def check(self, records: Records) -> None:
        records.need("object_ids", what=self.title)

    def name_of(self, key: str, records: Records) -> str:
        if f"{key}{self.ending}".endswith(_INFO):
            raise UsageError(f"the key {key!r} would be taken for the info of another picture", "export another format")
        return super().name_of(key, records)

    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        yield key + self.ending, dump(record.features.astype("<f4"))
        yield key + _INFO, dump_object(info_of(record))
