"""VCR (Zellers et al. 2019): questions about the objects of a picture, four answers, four rationales; and its CSV.

A ``.jsonl`` file has one item a line; each names a picture and a JSON file with the boxes of its objects.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from featx.data.document import Document, Row
from featx.data.names import PictureNames
from featx.errors import UsageError
from featx.settings import known_instead

CHOICES = 4
Word = str | tuple[int, ...]  # a word as it is written, or the numbers of objects that stand in its place
Words = tuple[Word, ...]
Box = tuple[float, float, float, float]
_KNOWN = {"vcr", "pictures", "image_name"}


@dataclass(frozen=True, slots=True)
class VcrItem:
    """A question with its choices; ``picture`` is the key in the store, ``file`` the path below the folder of pictures.

    objects: the class of each; boxes: x0, y0, x1, y1 of each in pixels of a picture of ``size`` (height, width).
    answer, rationale: the numbers of the right ones; None where a file does not say.
    """

    id: str
    picture: str
    file: str
    objects: tuple[str, ...]
    boxes: tuple[Box, ...]
    size: tuple[int, int]
    question: Words
    answers: tuple[Words, ...]
    rationales: tuple[Words, ...]
    answer: int | None = None
    rationale: int | None = None


class Scenery(NamedTuple):
    """What a metadata file says: the boxes of the objects, and the size (height, width) of the picture."""

    boxes: tuple[Box, ...]
    size: tuple[int, int]


def read_vcr(spec: Mapping[str, Any]) -> list[VcrItem]:
    """The items of one file, in their order.

    spec: ``vcr``: path of a ``.jsonl`` (or ``.jsonl.gz``) file; ``pictures``: the folder in which ``metadata_fn`` and
    ``img_fn`` lie (``vcr1images``); ``image_name``: template of the store keys, by default the name of the picture's
    file without folder and suffix, as ``featx extract --key-rule stem`` calls it.

    Raises UsageError, naming file, line and field, for whatever is not as VCR has it.
    """
    unknown = sorted(set(spec) - _KNOWN)
    absent = [name for name in ("vcr", "pictures") if not spec.get(name)]
    if unknown or absent:
        found = f"unknown setting {unknown[0]!r}" if unknown else f"no {absent[0]!r}"
        raise UsageError(
            f"the specification of a data set of VCR has {found}", known_instead((unknown or absent)[0], sorted(_KNOWN))
        )
    name, root = str(spec["vcr"]), Path(str(spec["pictures"]))
    template = PictureNames(str(spec["image_name"])) if spec.get("image_name") else None
    known: dict[str, Scenery] = {}
    found_items = []
    for row in _rows(name):
        file = row.text("metadata_fn")
        if file not in known:
            known[file] = read_scenery(root / file)
        found_items.append(item_of(row, known[file], template))
    ids = [item.id for item in found_items]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise UsageError(f"{name}: 'annot_id' {twice!r} is there twice", "give every item once")
    return found_items


def item_from(fields: Mapping[str, Any], pictures: str | os.PathLike[str]) -> VcrItem:
    """One item that has been parsed already, as the original's pipelines take it. Raises UsageError."""
    row = Row(Document("the item", fields), "it", dict(fields))
    return item_of(row, read_scenery(Path(pictures) / row.text("metadata_fn")), None)


def item_of(row: Row, scenery: Scenery, template: PictureNames | None) -> VcrItem:
    """The item of a line, with what is known of its picture."""
    objects = _objects(row, scenery)
    file = row.text("img_fn")
    stem = PurePosixPath(file).stem
    return VcrItem(
        row.text("annot_id") if "annot_id" in row.fields else stem,
        template.key(stem) if template else stem,
        file,
        objects,
        scenery.boxes,
        scenery.size,
        _words(row, "question", row.fields.get("question"), len(objects)),
        _choices(row, "answer_choices", len(objects)),
        _choices(row, "rationale_choices", len(objects)),
        _label(row, "answer_label"),
        _label(row, "rationale_label"),
    )


def read_scenery(path: Path) -> Scenery:
    """Boxes and size of a metadata file; scores and outlines of objects are not kept. Raises UsageError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", "`pictures` is the folder in which metadata_fn lies"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", "unpack the archive again") from None
    row = Row(Document(str(path), content), "the picture", content)
    size = [row.fields.get(name) for name in ("height", "width")]
    if not all(_number(value) and value >= 1 for value in size):
        row.refuse("width", "expected width and height in pixels")
    boxes = row.fields.get("boxes")
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        row.refuse("boxes", "expected a list of x0, y0, x1, y1 and a score, in pixels")
    return Scenery(tuple((float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in boxes),
                   (int(size[0]), int(size[1])))  # fmt: skip


def leaderboard(
    ids: Sequence[str], answers: Sequence[Sequence[float]], rationales: Sequence[Sequence[Sequence[float]]]
) -> str:
    """The text of a file of predictions for the leaderboard: a line for each item, with 20 chances behind its id.

    answers: ``[n][4]``; rationales: ``[n][4][4]``, of each rationale if each of the answers were right.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    each = range(CHOICES)
    lines.writerow(["annot_id", *(f"answer_{i}" for i in each),
                    *(f"rationale_conditioned_on_a{i}_{j}" for i in each for j in each)])  # fmt: skip
    for one, answer, rationale in zip(ids, answers, rationales, strict=True):
        chances = [*answer, *(value for row in rationale for value in row)]
        if len(chances) != CHOICES * (1 + CHOICES):
            raise UsageError(f"{one} has {len(chances)} chances", "give 4 of answers and 4 of rationales for each")
        lines.writerow([one, *(f"{value:.6f}" for value in chances)])
    return out.getvalue()


def _rows(name: str) -> Iterator[Row]:
    """The lines of a file that are not blank, each knowing its number."""
    try:
        data = Path(name).read_bytes()
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}", "check the name of the file") from None
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} is no text in UTF-8: {error}", "download or unpack it again") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}: line {number} is not JSON: {error}", "expected one item a line") from None
        yield Row(Document(name, None), f"line {number}", fields)


def _objects(row: Row, scenery: Scenery) -> tuple[str, ...]:
    objects = row.fields.get("objects")
    if not isinstance(objects, list) or not all(isinstance(one, str) and one for one in objects):
        row.refuse("objects", "expected a list of names")
    if len(objects) != len(scenery.boxes):
        row.refuse("objects", f"expected one for each of the {len(scenery.boxes)} boxes of {row.text('metadata_fn')}")
    return tuple(objects)


def _choices(row: Row, field: str, objects: int) -> tuple[Words, ...]:
    choices = row.fields.get(field)
    if not isinstance(choices, list) or len(choices) != CHOICES:
        row.refuse(field, f"expected {CHOICES} lists of words")
    return tuple(_words(row, field, one, objects) for one in choices)


def _words(row: Row, field: str, words: Any, objects: int) -> Words:
    """Words and numbers of objects. Raises UsageError for anything else, and for an object that is not there."""
    if not isinstance(words, list) or not words:
        row.refuse(field, "expected a list of words and of lists of numbers of objects")
    found: list[Word] = []
    for one in words:
        numbers = isinstance(one, list) and one and all(type(n) is int for n in one)
        if not numbers and not isinstance(one, str):
            row.file.refuse(
                f"{field!r} of {row.place} holds {json.dumps(one)[:40]}", "expected words, and lists of numbers"
            )
        if numbers and not all(0 <= n < objects for n in one):
            row.file.refuse(f"{field!r} of {row.place} names object {max(one, key=abs)}", f"it has {objects} objects")
        found.append(tuple(one) if numbers else str(one))
    return tuple(found)


def _label(row: Row, field: str) -> int | None:
    label = row.fields.get(field)
    if label is None:
        return None
    if type(label) is not int or not 0 <= label < CHOICES:
        row.refuse(field, f"expected a number from 0 to {CHOICES - 1}, or none")
    return int(label)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) >= 4 and all(map(_number, box[:4]))
