"""Annotated pictures: COCO's instances JSON with attributes, the form in which Visual Genome is used for detectors.

Read are ``images`` (id, file_name, width, height), ``annotations`` (image_id, category_id, bbox ``x y w h``,
iscrowd) and ``categories`` (id, name), as COCO defines them, and the attributes in both forms that are in use:

* Visual Genome for grid-feats-vqa and its relatives (mmf, vqa-maskrcnn-benchmark): names in ``attCategories``, at most
  sixteen ``attribute_ids`` in an annotation, the field absent where nobody named any; ids count from 0;
* MILVLG's bottom-up-attention.pytorch: the field is called ``attribute``, the names ``attributes``, ids count from 1.

Ids may be any whole numbers: classes and attributes are numbered anew, by rising id. Crowds (``iscrowd`` 1) are left
out, and so is a box without area inside its picture, of which Visual Genome has some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.schema import Array
from featx_extractors.training.pictures import check_pictures

_WANTED = "expected COCO's instances JSON with images, annotations and categories"


@dataclass(frozen=True, eq=False)
class Annotated:
    """One picture: key (file name without folder and suffix), file, size (height, width), and G boxes in it.

    boxes ``[G, 4]`` float32 x0 y0 x1 y1 in pixels of the original; classes ``[G]`` int64 from 0; attributes: the ids
    named for each box, from 0, first named first.
    """

    picture: str
    path: Path
    size: tuple[int, int]
    boxes: Array
    classes: Array
    attributes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Names:
    """Names of the ids: objects, and attributes (empty when the file has none)."""

    objects: tuple[str, ...]
    attributes: tuple[str, ...]


def read_coco(annotations: str | Path, pictures: str | Path) -> tuple[list[Annotated], Names]:
    """All pictures of an annotation file in its order, and the names. ``pictures`` is the folder of the files.

    Raises UsageError naming file and entry for anything that is not as expected, also among the pictures.
    """
    file, folder = Path(annotations), Path(pictures)
    data = _load(file)
    objects, object_ids = _names(data, "categories", file)
    table = "attCategories" if "attCategories" in data else "attributes"
    attributes, attribute_ids = _names(data, table, file) if table in data else ((), {})
    by_picture: dict[Any, list[_Box]] = {}
    images = _entries(data, "images", file)
    sizes = {_number(image, "id", f"{file}: images[{i}]"): _size(image, f"{file}: images[{i}]")
             for i, image in enumerate(images)}  # fmt: skip
    for i, entry in enumerate(_entries(data, "annotations", file)):
        where = f"{file}: annotations[{i}]"
        owner = _number(entry, "image_id", where)
        if owner not in sizes:
            raise UsageError(f"{where} is of image {owner}, which is not among the images", "correct the file")
        box = _box(entry, sizes[owner], object_ids, attribute_ids, where)
        if box is not None:
            by_picture.setdefault(owner, []).append(box)
    found = [_annotated(image, folder, sizes[image["id"]], by_picture.get(image["id"], ())) for image in images]
    check_pictures([(one.path, one.size) for one in found], file)
    return found, Names(objects, attributes)


_Box = tuple[list[float], int, tuple[int, ...]]


def _load(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"the annotations {file} cannot be read: {error}", "check the path") from None
    except ValueError as error:
        raise UsageError(f"the annotations {file} are no JSON: {error}", "get a complete copy") from None
    if not isinstance(data, dict):
        raise UsageError(f"the annotations {file} are a JSON {type(data).__name__}", _WANTED)
    return data


def _entries(data: Mapping[str, Any], name: str, file: Path) -> list[Mapping[str, Any]]:
    entries = data.get(name)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UsageError(f"{file} has no list {name!r}", _WANTED)
    return entries


def _names(data: Mapping[str, Any], table: str, file: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """Names by rising id, and id -> number from 0."""
    named = {}
    for i, entry in enumerate(_entries(data, table, file)):
        where = f"{file}: {table}[{i}]"
        number, name = _number(entry, "id", where), entry.get("name")
        if not isinstance(name, str) or not name or number in named:
            raise UsageError(f"{where} has id {number} and name {name!r}", "expected ids that differ, and a name each")
        named[number] = name
    if not named:
        raise UsageError(f"{file}: {table} is empty", "there is nothing to learn without a class")
    ids = sorted(named)
    return tuple(named[i] for i in ids), {number: i for i, number in enumerate(ids)}


def _number(entry: Mapping[str, Any], name: str, where: str) -> int:
    value = entry.get(name)
    if type(value) is not int:
        raise UsageError(f"{where}: {name} is {value!r}", "expected a whole number")
    return value


def _size(image: Mapping[str, Any], where: str) -> tuple[int, int]:
    height, width = _number(image, "height", where), _number(image, "width", where)
    if min(height, width) < 1 or not isinstance(image.get("file_name"), str):
        raise UsageError(f"{where} is {dict(image)}", "expected a file_name, and a width and height of 1 or more")
    return height, width


def _box(
    entry: Mapping[str, Any], size: tuple[int, int], objects: dict[int, int], attributes: dict[int, int], where: str
) -> _Box | None:
    """Corners cut to the picture, class, attributes; None for a crowd or a box without area."""
    category = _number(entry, "category_id", where)
    if category not in objects:
        raise UsageError(f"{where} has category {category}, which is not among the categories", "correct the file")
    x, y, w, h = _four(entry.get("bbox"), where)
    named = entry.get("attribute_ids", entry.get("attribute")) or []
    unknown = [a for a in named if type(a) is not int or a not in attributes] if isinstance(named, list) else [named]
    if unknown:
        raise UsageError(f"{where} has attribute {unknown[0]!r}, which has no name", "list it in attCategories")
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, size[1]), min(y + h, size[0])
    if entry.get("iscrowd") == 1 or x1 <= x0 or y1 <= y0:
        return None
    return [x0, y0, x1, y1], objects[category], tuple(dict.fromkeys(attributes[a] for a in named))


def _four(values: Any, where: str) -> list[float]:
    numbers = isinstance(values, list) and len(values) == 4 and all(type(v) in (int, float) for v in values)
    if not numbers or not all(map(math.isfinite, values)):
        raise UsageError(f"{where}: bbox is {values!r}", "expected [x, y, width, height] in pixels")
    return list(values)


def _annotated(image: Mapping[str, Any], folder: Path, size: tuple[int, int], boxes: Sequence[_Box]) -> Annotated:
    path = folder / image["file_name"]
    return Annotated(
        path.stem,
        path,
        size,
        np.array([b[0] for b in boxes], np.float32).reshape(-1, 4),
        np.array([b[1] for b in boxes], np.int64),
        tuple(b[2] for b in boxes),
    )
