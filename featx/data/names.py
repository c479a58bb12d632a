"""From the name a data set gives a picture to its key in the store, by a template."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from featx.errors import UsageError

# Folder of the pictures of a VQAv2 subset. The 2015 test-dev questions are asked of test2015.
SPLITS = {"train2014": "train2014", "val2014": "val2014", "test2015": "test2015", "test-dev2015": "test2015"}
COCO_NAME = "COCO_{split}_{image_id:012d}"


@dataclass(frozen=True)
class PictureNames:
    """Fills ``{image_id}`` and ``{split}`` of a template such as ``COCO_{split}_{image_id:012d}``."""

    template: str
    split: str = ""

    def key(self, image_id: int | str) -> str:
        """The key of a picture. Digits in a string count as a number where the template asks for one (``012d``)."""
        try:
            return self._fill(image_id)
        except (LookupError, ValueError, AttributeError) as error:
            raise UsageError(
                f"image_name {self.template!r} cannot be filled in for picture {image_id!r}: {error}",
                "use image_id and split only, as in 'COCO_{split}_{image_id:012d}'",
            ) from None

    def _fill(self, image_id: int | str) -> str:
        try:
            key = self.template.format(image_id=image_id, split=self.split)
        except ValueError:
            image_id = int(image_id)
            key = self.template.format(image_id=image_id, split=self.split)
        if str(image_id) not in key:
            raise ValueError("the id is not in it")
        return key


def coco_names(template: str | None, subset: object) -> PictureNames:
    """Names of the pictures of a COCO or VQAv2 subset (``data_subtype``).

    Without a template the published subsets get the keys of LXMERT's files, such as ``COCO_val2014_000000000042``; any
    other subset names its pictures by their ids.
    """
    name = subset if isinstance(subset, str) else ""
    return PictureNames(template or (COCO_NAME if name in SPLITS else "{image_id}"), SPLITS.get(name, name))


def numbers(keys: Iterable[str]) -> dict[str, int | str]:
    """Key -> the number it ends in, as ``COCO_val2014_000000000042`` does; the key itself where that is not of one."""
    found = {key: int(end[0]) if (end := re.search(r"[0-9]+$", key)) else None for key in keys}
    known = set(found.values())
    if None in known or len(known) < len(found):
        return {key: key for key in found}
    return {key: number for key, number in found.items() if number is not None}
