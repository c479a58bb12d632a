"""The HDF5 of hengyuan-hu/bottom-up-attention-vqa (a fixed number of boxes) and of jnhwkim/ban-vqa (adaptive).

Fixed: ``image_features`` [N, K, D], ``image_bb`` [N, K, 4] pixels, ``spatial_features`` [N, K, 6] = x0/W, y0/H, x1/W,
y1/H, w/W, h/H. Adaptive: the same as rows [T, ...], and ``pos_boxes`` [N, 2], the rows of picture i. Which picture is
row i is in another file, ``<name>_imgid2idx``: the pickle {id: row} of the peers, or JSON, which needs no trust and is
preferred. The size of a picture is its pixels divided by its parts. Arrays are made full-size first, so rows of zeros
were never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import FeatxError, UsageError
from featx.formats.base import FLOAT32, Format, Item, Survey, item_of
from featx.formats.hdf5.file import Hdf5Source, is_hdf5, open_hdf5, writing
from featx.formats.hdf5.library import FAULTS
from featx.formats.identity import file_facts
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.regions import written
from featx.formats.values.pickle_write import dumps
from featx.formats.values.pickles import PickleRefused, loads, need_trust
from featx.record import Record
from featx.schema import Array
from featx.store import disk

_ARRAYS = {"image_features": 0, "image_bb": 4, "spatial_features": 6}
_ROWS_AT_ONCE = 4096  # whose keys are asked for at a time


class _VqaHdf5(Format):
    """What the two have in common."""

    pickled = "part"
    losses = (
        "classes, attributes and confidences are not in the file",
        FLOAT32,
        "keys are whole numbers: --ids says how a key becomes one, --key how a number becomes a key",
    )
    takes = frozenset({"key", "sizes", "allow_pickle"})
    gives = frozenset({"ids"})
    adaptive: bool

    def detect(self, path: Path) -> bool:
        if not is_hdf5(path):
            return False
        try:
            with open_hdf5(path) as source:
                names = {link.name for link in source.members()}
                return {"image_features", "image_bb"} <= names and self.adaptive == ("pos_boxes" in names)
        except (FeatxError, *FAULTS):
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        with open_hdf5(path) as source:
            facts = file_facts(path)
            facts["ids"] = file_facts(_ids_file(path, options))["sha256"]
            return Survey(len(self._pictures(source, path)), facts)

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, names = Sizes.of(options), _names(path, options)
        with open_hdf5(path) as source:
            count = len(self._pictures(source, path))
            for number in range(start, count):
                yield self._item(source, number, names.get(number, []), options, sizes)

    def write(self, records: Records, path: Path, options: Options) -> int:
        import h5py

        keys = list(records.keys())
        records.check_numbers()
        rows = {records.number(key): row for row, key in enumerate(keys)}
        starts = np.cumsum([0, *_counts(records, keys)])
        shape = self._shape(records, starts)
        with writing(path) as temporary:
            with h5py.File(temporary, "w") as file:
                made = [
                    file.create_dataset(name, (*shape, width or records.schema.dim), "f")
                    for name, width in _ARRAYS.items()
                ]
                if self.adaptive:
                    file["pos_boxes"] = np.stack([starts[:-1], starts[1:]], 1).astype("<i4")
                for number, (_, record) in enumerate(records):
                    place = slice(int(starts[number]), int(starts[number + 1])) if self.adaptive else number
                    for array, values in zip(made, (record.features, record.boxes, _spatial(record)), strict=True):
                        array[place] = values
            texts = json.dumps({str(one): row for one, row in rows.items()}).encode()
            for other, data in zip(self.beside(path), (texts, dumps(rows, 0), dumps(set(rows), 0)), strict=True):
                disk.publish(other, data)
        return len(keys)

    def beside(self, path: Path) -> list[Path]:
        """Rows by id, as JSON and as its readers want it, and the set of ids."""
        stem = str(path.with_suffix(""))
        return [
            Path(f"{stem}_imgid2idx.json"),
            Path(f"{stem}_imgid2idx.pkl"),
            Path(f"{stem.removesuffix('36')}_ids.pkl"),
        ]

    def _pictures(self, source: Hdf5Source, path: Path) -> Any:
        """The dataset that has an entry per picture."""
        name = "pos_boxes" if self.adaptive else "image_features"
        try:
            found = source.array("/", name)
            if len(found.shape) != (2 if self.adaptive else 3):
                raise ValueError(f"{name} has shape {list(found.shape)}")
        except FAULTS as error:
            raise UsageError(
                f"{path} is no {self.title}: {error}", "check the format of the file; of a damaged one make a new copy"
            ) from None
        return found

    def _item(self, source: Hdf5Source, number: int, names: list[str], options: Options, sizes: Sizes) -> Item:
        def key() -> str:
            return key_of(names[0], options) if names else ""

        def record(key: str) -> Record:
            first, last = self._rows(source, number)
            arrays = {name: source.rows(source.array("/", name), first, last) for name in _ARRAYS}
            if not self.adaptive:
                arrays = {name: array[0] for name, array in arrays.items()}
            empty = self.adaptive and first == last > 0
            if not empty and not any(map(written, arrays.values())):
                raise ValueError("its rows are zeros: the run that made the file did not come to it")
            if len(names) != 1:
                raise ValueError(f"row {number} belongs to {len(names)} ids {names[:3]}, expected one")
            return _record(arrays, sizes.find(key))

        return item_of(number, f"row {number}", key, record, FAULTS)

    def _rows(self, source: Hdf5Source, number: int) -> tuple[int, int]:
        if not self.adaptive:
            return number, number + 1
        ((first, last),) = source.rows(source.array("/", "pos_boxes"), number, number + 1).tolist()
        total = source.array("/", "image_features").shape[0]
        if not 0 <= first <= last <= total:
            raise ValueError(f"pos_boxes says rows {first} to {last} of {total}")
        return first, last

    def _shape(self, records: Records, starts: Array) -> tuple[int, ...]:
        """Shape of the arrays without their columns. Raises UsageError for counts that a fixed file cannot hold."""
        if self.adaptive:
            return (int(starts[-1]),)
        counts = np.unique(np.diff(starts))
        if len(counts) != 1:
            raise UsageError(
                f"pictures have from {counts.min()} to {counts.max()} regions; {self.title} needs one number"
                if len(counts) else "the store has no pictures",
                "vqa-hdf5-adaptive holds any",
            )  # fmt: skip
        return len(starts) - 1, int(counts[0])


class VqaHdf5Fixed(_VqaHdf5):
    """A fixed number of boxes, 36 in the published files."""

    name = "vqa-hdf5-fixed"
    title = "HDF5 with a fixed number of boxes"
    source = "hengyuan-hu/bottom-up-attention-vqa, tools/detection_features_converter.py"
    adaptive = False


class VqaHdf5Adaptive(_VqaHdf5):
    """Any number of boxes."""

    name = "vqa-hdf5-adaptive"
    title = "HDF5 with adaptive boxes"
    source = "jnhwkim/ban-vqa, tools/adaptive_detection_features_converter.py"
    adaptive = True


def _ids_file(path: Path, options: Options) -> Path:
    """The file that says which picture is which row: JSON, else the pickle, if that may be read. Raises UsageError."""
    plain, pickled = (path.with_name(f"{path.stem}_imgid2idx.{kind}") for kind in ("json", "pkl"))
    if plain.exists():
        return plain
    if not pickled.exists():
        raise UsageError(
            f"{path} does not say which picture a row is, and there is no {pickled.name} beside it",
            f"put it there, or {plain.name}: {{id: row}}",
        )
    need_trust(options, f"{path} has the ids of its rows in {pickled.name}, which is one of these peers' files")
    return pickled


def _names(path: Path, options: Options) -> dict[int, list[str]]:
    """The ids of every row, as text."""
    file = _ids_file(path, options)
    try:
        content = file.read_bytes()
        found = json.loads(content) if file.suffix == ".json" else loads(content)
        names: dict[int, list[str]] = {}
        for one, row in found.items():
            names.setdefault(int(row), []).append(str(one))
    except (OSError, ValueError, TypeError, AttributeError, PickleRefused) as error:
        problem = error.message if isinstance(error, PickleRefused) else error
        raise UsageError(f"{file} cannot be read: {problem}", "expected a mapping {id: row}, whole") from None
    return names


def _record(arrays: dict[str, Array], size: tuple[int, int] | None) -> Record:
    features, boxes, parts = (np.ascontiguousarray(arrays[name], "<f4") for name in _ARRAYS)
    if boxes.shape != (len(features), 4) or parts.shape != (len(features), 6):
        raise ValueError(f"image_bb is {list(boxes.shape)} and spatial_features {list(parts.shape)}")
    return Record(features, boxes, size or _size(boxes, parts))


def _size(boxes: Array, parts: Array) -> tuple[int, int]:
    """(height, width) from pixels and the same as parts. Raises ValueError when the two do not fit one another."""
    found = []
    for axis in (1, 0):
        row = int(boxes[:, axis + 2].argmax()) if len(boxes) else -1
        part = float(parts[row, axis + 2]) if row >= 0 else 0.0
        side = float(boxes[row, axis + 2]) / part if part > 0 else np.nan
        if not 1 <= side < 2**31:
            raise ValueError("the size of the picture cannot be told from its boxes: --sizes gives it")
        found.append(round(side))
    height, width = found
    apart = np.abs(parts[:, :4] * np.array([width, height, width, height], "<f8") - boxes).max()
    if not apart <= 0.01 + 1e-5 * max(found):
        raise ValueError(f"image_bb and spatial_features differ by {apart:.3g} pixels")
    return height, width


def _spatial(record: Record) -> Array:
    """As the converter computes it: x1 is x0/W + w/W, in float32."""
    sides = np.array(record.size[::-1], "<f4")
    corner, extent = record.boxes[:, :2] / sides, (record.boxes[:, 2:] - record.boxes[:, :2]) / sides
    return np.concatenate([corner, corner + extent, extent], 1)


def _counts(records: Records, keys: list[str]) -> Iterator[int]:
    """Number of regions of each picture."""
    waiting = iter(keys)
    while some := list(islice(waiting, _ROWS_AT_ONCE)):
        yield from records.store.row_counts(some)[:, 1].tolist()
