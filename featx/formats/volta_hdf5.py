"""volta's HDF5 (e-bug/volta, ``features_extraction/*``): a group per picture with an array for everything.

``features`` [n, D], ``boxes`` [n, 4] pixels, ``obj_id``, ``obj_conf``, ``attr_id``, ``attr_conf`` [n], and ``img_w``,
``img_h``.
A slash in a key makes groups in groups. Pictures come in the order of their names, which is that of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from featx.errors import FeatxError, UsageError
from featx.formats.base import Format, Item, Survey
from featx.formats.hdf5_file import FAULTS, Hdf5Source, is_hdf5, open_hdf5, writing
from featx.formats.identity import file_facts
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import record_of
from featx.formats.volta_lmdb import FIELDS, volta_fields

_ARRAYS = ("features", "boxes", *FIELDS, "img_w", "img_h")
_DEEPEST = 32  # groups in groups


class VoltaHdf5(Format):
    """volta."""

    name = "volta-hdf5"
    title = "HDF5 of volta"
    source = "e-bug/volta, features_extraction/tsv_to_h5.py"
    losses = (
        "the order of the pictures is that of their names",
        "features are float32; of int8 and bfloat16 that is exact",
        "class_probs are not in the file",
    )
    boxes = "regressed"
    takes = frozenset({"key", "sizes", "background"})

    def detect(self, path: Path) -> bool:
        if not is_hdf5(path):
            return False
        try:
            with open_hdf5(path) as source:
                group = next(_pictures(source, path))
                return {"features", "boxes", "img_w"} <= set(source.root[group])
        except (FeatxError, StopIteration, *FAULTS):
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        with open_hdf5(path) as source:
            return Survey(sum(1 for _ in _pictures(source, path)), file_facts(path))

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes = Sizes(options)
        with open_hdf5(path) as source:
            for number, name in islice(enumerate(_pictures(source, path)), start, None):
                yield _item(source, number, name, options, sizes)

    def write(self, records: Records, path: Path, options: Options) -> int:
        import h5py

        records.need(*FIELDS.values(), what=self.title)
        keys = records.keys()
        for key in keys:
            _check_key(key, records)
        number = 0
        with writing(path) as temporary, h5py.File(temporary, "w") as file:
            for key, record in records:
                group = file.create_group(key)
                group["features"], group["boxes"] = record.features.astype("<f4"), record.boxes
                for name, array in volta_fields(record).items():
                    group[name] = array
                group["img_h"], group["img_w"] = record.size
                number += 1
        return number


def _check_key(key: str, records: Records) -> None:
    """Raise UsageError for a key that is no path of groups, or lies within the group of another picture."""
    parts = key.split("/")
    inside = next((above for n in range(1, len(parts)) if (above := "/".join(parts[:n])) in records.store), None)
    if inside is not None or any(part in ("", ".") for part in parts):
        raise UsageError(
            f"the key {key!r} cannot name a group of its own" + (f": {inside!r} is a picture" if inside else ""),
            "export another format, or these pictures under --keys",
        )


def _pictures(source: Hdf5Source, path: Path) -> Iterator[str]:
    """Names of the groups that hold features; and of links and groups that cannot be read, to be told."""
    try:
        names = _names(source.root)
    except FAULTS as error:
        raise UsageError(f"{path} cannot be listed: {error}", "it is damaged; make a new copy") from None
    yield from _below(source.root, names, "", 0)


def _below(group: Any, names: list[str], prefix: str, depth: int) -> Iterator[str]:
    import h5py

    for name in names:
        inner: list[str] = []
        below = None
        try:
            hard = isinstance(group.get(name, getlink=True), h5py.HardLink)
            below = group[name] if hard and depth < _DEEPEST else None
            if isinstance(below, h5py.Group) and "features" not in below:
                inner = _names(below)
        except FAULTS:  # told when it is read
            inner = []
        if inner:
            yield from _below(below, inner, f"{prefix}{name}/", depth + 1)
        else:
            yield prefix + name


def _names(group: Any) -> list[str]:
    """Names in a group; h5py has bytes for those that are no UTF-8."""
    return [name.decode(errors="backslashreplace") if isinstance(name, bytes) else name for name in group]


def _item(source: Hdf5Source, number: int, name: str, options: Options, sizes: Sizes) -> Item:
    key, place = "", f"group {name[:200]!r}"
    try:
        key = key_of(name, options)
        group = source.root[name]
        values = {one: source.rows(source.dataset(group, one)) for one in _ARRAYS if one in group}
        return Item(number, place, key, record_of(values, sizes.find(key), options.background))
    except (FeatxError, *FAULTS) as error:
        problem = error.message if isinstance(error, FeatxError) else f"{error}" or type(error).__name__
        return Item(number, place, key, None, problem)
