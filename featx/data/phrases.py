"""Phrases and the boxes of all things they are about, made of boxes with names and attributes (COCO's layout)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from featx.data.captions import stem
from featx.data.document import Document, Row, load_document
from featx.data.names import PictureNames
from featx.errors import UsageError
from featx.settings import known_instead

Box = tuple[float, float, float, float]
_KNOWN = {"boxes", "attributes", "image_name"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """A few words and the boxes of everything in the picture that they fit; ``picture`` is the key in the store.

    boxes: x0, y0, x1, y1 in pixels of the upright original, as everywhere in featx.
    """

    id: str
    picture: str
    text: str
    boxes: tuple[Box, ...]


def read_phrases(spec: Mapping[str, Any]) -> list[Phrase]:
    """The phrases of one file, picture by picture.

    spec: ``boxes``: path of a JSON file of COCO's layout, as for :func:`featx.data.read_questions`; ``attributes``:
    names of attributes to speak of, by default all; ``image_name``: template of the store keys.

    Of every picture there is a phrase for each category in it, ``car``, and for each of its attributes, ``red car``,
    whatever stands in ``attCategories`` and ``attribute_ids`` (as ``featx scenes`` and the Visual Genome files of
    grid-feats-vqa have them). Its boxes are those of *all* things that it fits: ``red car`` those of every red car.
    Raises UsageError, naming file and entry, for another layout and for an attribute that the file does not know.
    """
    unknown = sorted(set(spec) - _KNOWN)
    if unknown or not spec.get("boxes"):
        found = f"unknown setting {unknown[0]!r}" if unknown else "no 'boxes'"
        hint = known_instead(unknown[0] if unknown else "boxes", sorted(_KNOWN))
        raise UsageError(f"the specification of a data set of phrases has {found}", hint)
    file = load_document(spec["boxes"])
    if not isinstance(file.content, dict) or not {"images", "annotations", "categories"} <= set(file.content):
        file.refuse("it has no 'images', 'annotations' and 'categories'", "expected boxes of COCO's layout")
    return list(_phrases(file, spec.get("attributes"), spec.get("image_name")))


def _phrases(file: Document, attributes: Any, image_name: str | None) -> Iterator[Phrase]:
    names = _names(file, "categories")
    adjectives = _chosen(file, _names(file, "attCategories"), attributes)
    template = PictureNames(image_name) if image_name else None
    pictures = {
        row.identifier("id"): template.key(row.identifier("id")) if template else stem(row)
        for row in file.rows(file.content["images"], "images")
    }
    found: dict[Any, dict[str, list[Box]]] = {}
    for row in file.rows(file.content["annotations"], "annotations"):
        picture = row.identifier("image_id")
        if picture not in pictures:
            row.refuse("image_id", "expected the id of one of 'images'")
        name, box = _named(row, names), _box(row)
        of_picture = found.setdefault(picture, {})
        for text in (name, *(f"{adjective} {name}" for adjective in _said(row, adjectives))):
            of_picture.setdefault(text, []).append(box)
    for picture, texts in found.items():
        for text, boxes in texts.items():
            yield Phrase(f"{picture} {text}", pictures[picture], text, tuple(boxes))


def _names(file: Document, what: str) -> dict[Any, str]:
    return {row.identifier("id"): row.text("name") for row in file.rows(file.content.get(what) or [], what)}


def _chosen(file: Document, known: Mapping[Any, str], wanted: Any) -> dict[Any, str]:
    """The attributes to speak of."""
    if wanted is None:
        return dict(known)
    if not isinstance(wanted, list | tuple) or not all(name in known.values() for name in wanted):
        file.refuse(
            f"attributes is {wanted!r}", f"give a list of some of {', '.join(list(known.values())[:20]) or 'none'}"
        )
    return {number: name for number, name in known.items() if name in wanted}


def _named(row: Row, names: Mapping[Any, str]) -> str:
    category = row.identifier("category_id")
    if category not in names:
        row.refuse("category_id", "expected the id of one of 'categories'")
    return names[category]


def _said(row: Row, adjectives: Mapping[Any, str]) -> Iterable[str]:
    """The attributes of a thing, each once."""
    numbers = row.fields.get("attribute_ids") or []
    if not isinstance(numbers, list) or not all(type(number) in (int, str) for number in numbers):
        row.refuse("attribute_ids", "expected a list of ids of 'attCategories'")
    return dict.fromkeys(adjectives[number] for number in numbers if number in adjectives)


def _box(row: Row) -> Box:
    """x, y, width, height in the file; corners here."""
    box = row.fields.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(type(v) in (int, float) for v in box):
        row.refuse("bbox", "expected x, y, width, height in pixels")
    x, y, width, height = map(float, box)
    if not (width > 0 and height > 0):
        row.refuse("bbox", "expected a width and a height above 0")
    return x, y, x + width, y + height
