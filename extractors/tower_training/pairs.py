"""Annotated pictures with the texts about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featx.data import read_captions, read_questions
from featx.errors import UsageError
from featx_extractors.training.coco import Annotated, Names, read_coco


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture with its boxes, and what is said or asked about it."""

    annotated: Annotated
    texts: tuple[str, ...]

    def __repr__(self) -> str:  # by which a run recognises its examples
        one = self.annotated
        said = (one.picture, one.size, one.boxes.tolist(), one.classes.tolist(), one.attributes, self.texts)
        return f"Pair{said}"


def read_pairs(files: Mapping[str, Any], texts: Sequence[Mapping[str, Any]], split: str) -> tuple[list[Pair], Names]:
    """The pictures of a split and the names of what is in them. Raises UsageError.

    files: ``{annotations: FILE, pictures: FOLDER}``. texts: specifications of captions or questions.
    """
    if set(files) != {"annotations", "pictures"} or not all(isinstance(f, str) for f in files.values()):
        raise UsageError(f"data.{split} is {dict(files)}", "give {annotations: FILE.json, pictures: FOLDER}")
    found, names = read_coco(files["annotations"], files["pictures"])
    said = _texts(texts)
    bare = [one.picture for one in found if one.picture not in said]
    if texts and bare:
        raise UsageError(
            f"data.{split}_texts says nothing about {len(bare)} of {len(found)} pictures, the first is {bare[0]!r}; it "
            f"is about pictures such as {next(iter(said), 'none')!r}",
            "image_name says how the pictures of a data set are called",
        )
    return [Pair(one, tuple(said.get(one.picture, ()))) for one in found], names


def _texts(specs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, None]]:
    """Picture -> its distinct texts, in the order of the files."""
    said: dict[str, dict[str, None]] = {}
    for spec in specs:
        read: Any = read_captions if "captions" in spec else read_questions
        for one in read(spec):
            said.setdefault(one.picture, {})[one.text] = None
    return said
