"""volta's HDF5 (e-bug/volta, ``features_extraction/*``): a group per picture with an array for everything.

``features`` [n, D], ``boxes`` [n, 4] pixels, ``obj_id``, ``obj_conf``, ``attr_id``, ``attr_conf`` [n], and ``img_w``,
``img_h``.
A slash in a key makes groups in groups. Pictures come in the order of their names, which is that of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from featx.errors import FeatxError, UsageError
from featx.formats.base import FLOAT32, Format, Item, Survey, item_of
from featx.formats.hdf5.file import LOST, Hdf5Source, is_hdf5, open_hdf5, writing
from featx.formats.hdf5.library import FAULTS
from featx.formats.hdf5.links import Link
from featx.formats.identity import file_facts
from featx.formats.lmdb.volta import FIELDS, volta_fields
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import record_of, written
from featx.record import Record

_ARRAYS = ("features", "boxes", *FIELDS, "img_w", "img_h")
_DEEPEST = 32  # groups in groups
_TRIED = 16  # pictures that are looked at to know the format


class VoltaHdf5(Format):
    """volta."""

    name = "volta-hdf5"
    title = "HDF5 of volta"
    source = "e-bug/volta, features_extraction/tsv_to_h5.py"
    losses = (
        "the order of the pictures is that of their names",
        FLOAT32,
        "class_probs are not in the file",
    )
    boxes = "regressed"
    takes = frozenset({"key", "sizes", "background"})

    def detect(self, path: Path) -> bool:
        if not is_hdf5(path):
            return False
        try:
            with open_hdf5(path) as source:
                return any(_fits(source, picture) for picture in islice(_pictures(source, path), _TRIED))
        except (FeatxError, *FAULTS):
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        with open_hdf5(path) as source:
            return Survey(sum(1 for _ in _pictures(source, path)), file_facts(path))

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes = Sizes.of(options)
        with open_hdf5(path) as source:
            for number, picture in islice(enumerate(_pictures(source, path)), start, None):
                yield _item(source, number, picture, options, sizes)

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
    """Raise UsageError for a key that is no path of groups, or lies within the group of another picture.

    A group below another that is called as an array is would make a picture of the one above.
    """
    parts = key.split("/")
    inside = next((above for n in range(1, len(parts)) if (above := "/".join(parts[:n])) in records.store), None)
    taken = next((part for part in parts[1:] if part in _ARRAYS), None)
    if inside is not None or taken or any(part in ("", ".") for part in parts):
        said = f": {inside!r} is a picture" if inside else f": {taken!r} is an array of a picture" if taken else ""
        raise UsageError(
            f"the key {key!r} cannot name a group of its own{said}",
            "export another format, or these pictures under --keys",
        )


def _pictures(source: Hdf5Source, path: Path) -> Iterator[Link]:
    """The groups that hold features; links and groups that cannot be read, to be told; and what is lost."""
    try:
        members = source.members()
    except FAULTS as error:
        raise UsageError(f"{path} cannot be listed: {error}", LOST) from None
    if members and all(link.problem for link in members):
        raise UsageError(f"{path} cannot be listed: {members[0].problem}", LOST)
    yield from _below(source, members, "", set())


def _below(
    source: Hdf5Source, members: list[Link], prefix: str, above: set[int], depth: int = _DEEPEST
) -> Iterator[Link]:
    """The same of the ``members`` of a group. above: addresses of groups that were listed, none of them twice."""
    for link in members:
        picture = link._replace(name=f"{prefix}{link.name}")
        inner: list[Link] = []
        try:
            place = None if link.problem else source.inner(f"/{prefix}", link.name, "features")
            if place is not None and place not in above and depth:
                above.add(place)
                inner = source.members(f"/{picture.name}")
        except FAULTS:  # told when it is read
            inner = []
        if all(one.problem for one in inner) or any(one.name in _ARRAYS for one in inner):
            yield picture
        else:
            yield from _below(source, inner, f"{picture.name}/", above, depth - 1)


def _fits(source: Hdf5Source, picture: Link) -> bool:
    try:
        return {"features", "boxes", "img_w"} <= {link.name for link in source.members(f"/{picture.name}")}
    except FAULTS:
        return False


def _item(source: Hdf5Source, number: int, picture: Link, options: Options, sizes: Sizes) -> Item:
    name = picture.name
    place = f"byte {picture.address}" if picture.problem else f"group {name[:200]!r}"

    def key() -> str:
        if picture.problem:
            raise ValueError(picture.problem)
        return key_of(name, options)

    def record(key: str) -> Record:
        members = source.members(f"/{name}")
        if lost := next((link.problem for link in members if link.problem), ""):
            raise ValueError(lost)
        there = {link.name for link in members}
        values = {one: source.rows(source.array(f"/{name}", one)) for one in _ARRAYS if one in there}
        regions = [values[one] for one in ("boxes", "features") if one in values and values[one].size]
        if regions and not any(map(written, regions)):
            raise ValueError("its boxes and features are zeros: the run that made the file did not come to them")
        return record_of(values, sizes.find(key), options.background)

    return item_of(number, place, key, record, FAULTS)
