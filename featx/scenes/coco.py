"""COCO's layouts: boxes with attributes, as in the Visual Genome files of grid-feats-vqa, and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featx.scenes.captions import Caption, references
from featx.scenes.grammar import Language
from featx.scenes.growing import GrowingJson, list_within
from featx.scenes.page import Page
from featx.scenes.world import ATTRIBUTES, KINDS, Scene

INFO = {"description": "scenes drawn by featx"}
_BOXES_PER_PICTURE = 100  # room in the numbers of boxes
_CAPTIONS_PER_PICTURE = 10
_REFERENCES_PER_PICTURE = 100


def image_entry(scene: Scene) -> dict[str, Any]:
    """A picture as COCO lists it."""
    return {"id": scene.id, "file_name": f"{scene.key}.jpg", "width": scene.width, "height": scene.height}


class Instances:
    """``instances_{split}.json``: categories from 1, attCategories from 0.

    bbox: x, y, width, height in pixels of what is visible; area: visible pixels; attribute_ids: colour, pattern, size.
    """

    def __init__(self, path: Path) -> None:
        self._images: list[dict[str, Any]] = []
        head = {
            "info": INFO,
            "categories": [{"id": k, "name": name} for k, name in enumerate(KINDS, 1)],
            "attCategories": [{"id": k, "name": name} for k, name in enumerate(ATTRIBUTES)],
        }
        self.file: GrowingJson = list_within(path, "annotations", head, lambda: {"images": self._images})

    def add(self, page: Page) -> None:
        """The boxes of one picture."""
        self._images.append(image_entry(page.scene))
        for box in boxes(page.scene):
            self.file.add(box)


def boxes(scene: Scene) -> Iterator[dict[str, Any]]:
    """COCO annotations of a scene, from the farthest thing to the nearest."""
    for number, thing in enumerate(scene.things):
        x0, y0, x1, y1 = thing.box
        yield {
            "id": scene.id * _BOXES_PER_PICTURE + number,
            "image_id": scene.id,
            "category_id": KINDS.index(thing.kind) + 1,
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "area": float(thing.area),
            "iscrowd": 0,
            "attribute_ids": [ATTRIBUTES.index(name) for name in (thing.colour, thing.pattern, thing.size)],
        }


class Captions:
    """``captions_{split}_{language}.json`` in COCO's layout."""

    def __init__(self, path: Path, language: Language) -> None:
        self._language = language
        self._images: list[dict[str, Any]] = []
        self.file: GrowingJson = list_within(path, "annotations", {"info": INFO}, lambda: {"images": self._images})

    def add(self, page: Page) -> None:
        """The captions of one picture."""
        self.say(page.scene, page.captions, _CAPTIONS_PER_PICTURE)

    def say(self, scene: Scene, captions: Sequence[Caption], room: int) -> None:
        """So many captions of one picture; room: for how many there are numbers."""
        self._images.append(image_entry(scene))
        for number, one in enumerate(captions):
            text = one.text(self._language)
            self.file.add({"image_id": scene.id, "id": scene.id * room + number, "caption": text})


class References(Captions):
    """``references_{split}_{language}.json``: many captions of each picture, to compare written ones with."""

    def add(self, page: Page) -> None:
        """The references of one picture."""
        self.say(page.scene, references(page.scene), _REFERENCES_PER_PICTURE)
