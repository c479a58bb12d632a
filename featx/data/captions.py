"""The layout of COCO captions: pictures, and sentences about them (cocodataset.org)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from featx.data.document import Document, Row
from featx.data.names import PictureNames
from featx.data.question import Caption
from featx.data.tsv import read_tsv


def fits(content: Any) -> bool:
    """Whether this is a file of captions."""
    return isinstance(content, dict) and "images" in content and "annotations" in content


def read(captions: Document, image_name: str | None = None, language: str = "en") -> Iterator[Caption]:
    """The captions in their order. The key is the picture's ``file_name`` without suffix, or what a template says."""
    keys = _keys(captions, image_name)
    for row in captions.rows(captions.content["annotations"], "annotations"):
        picture = row.identifier("image_id")
        if picture not in keys:
            row.refuse("image_id", "expected the id of one of 'images'")
        yield Caption(row.identifier("id"), keys[picture], row.text("caption"), language)


def read_pictures(captions: Document, image_name: str | None = None) -> dict[str, int | str]:
    """Key -> id of the pictures of such a file, in their order. Raises UsageError for two of one key."""
    found: dict[str, int | str] = {}
    for number, key in _keys(captions, image_name).items():
        if found.setdefault(key, number) != number:
            captions.refuse(f"the pictures {found[key]!r} and {number!r} both have the key {key}", "expected one each")
    return found


def texts_by_picture(captions: Document) -> dict[int | str, list[str]]:
    """Id of a picture -> all that such a file says about it; pictures without a caption are left out."""
    known, found = _keys(captions, "{image_id}"), dict[int | str, list[str]]()
    for row in captions.rows(captions.content["annotations"], "annotations"):
        if (picture := row.identifier("image_id")) not in known:
            row.refuse("image_id", "expected the id of one of 'images'")
        found.setdefault(picture, []).append(row.text("caption"))
    return found


def _keys(captions: Document, image_name: str | None) -> dict[int | str, str]:
    if not fits(captions.content):
        captions.refuse("it has no 'images' and 'annotations'", "expected a captions file of the COCO layout")
    names = PictureNames(image_name) if image_name else None
    rows = captions.rows(captions.content["images"], "images")
    return {number: names.key(number) if names else stem(row) for row in rows for number in [row.identifier("id")]}


def read_table(path: str, image_name: str | None = None, language: str = "en") -> Iterator[Caption]:
    """The captions of a table with the columns ``image_file`` and ``caption``; ids are their numbers, from 0.

    A row is in the language of its column ``lang_id``, where there is one. The key is the name of the picture's file
    without folder and suffix, or what a template says of that. (gchhablani/multilingual-image-captioning; other columns
    of it, ``url``, are of no interest here.)
    """
    names = PictureNames(image_name) if image_name else None
    for number, line in enumerate(read_tsv(path, ("image_file", "caption"))):
        spoken = line.text("lang_id") if "lang_id" in line.fields else language
        yield Caption(number, line.picture("image_file", names), line.text("caption"), sys.intern(spoken))


def stem(image: Row) -> str:
    """The ``file_name`` of a picture without suffix: its key, where no template says another. Raises UsageError."""
    path = PurePosixPath(image.text("file_name"))
    if not path.name or path.name.startswith("."):
        image.refuse("file_name", "expected the name of a picture's file, such as 000000000042.jpg")
    return str(path.with_suffix(""))
