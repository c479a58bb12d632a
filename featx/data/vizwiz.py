"""The layout of VizWiz: one file, one question to each picture (vizwiz.org)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from featx.data.document import Document, Row
from featx.data.names import PictureNames
from featx.data.question import Question
from featx.data.vqa import normalised_scores


def fits(content: Any) -> bool:
    """Whether this is ``train.json``, ``val.json`` or ``test.json`` of VizWiz."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "image" in first and "question" in first


def read(questions: Document, image_name: str | None = None, language: str = "en") -> Iterator[Question]:
    """The questions in their order; the id of a question is the file name of its picture, as in its submissions.

    The key is that name without its suffix, unless a template says otherwise. Test files have no answers.
    """
    if not fits(questions.content):
        questions.refuse(
            "it is no list of objects with 'image' and 'question'", "expected an annotation file of VizWiz"
        )
    names = PictureNames(image_name or "{image_id}")
    for row in questions.rows(questions.content, "questions"):
        name = row.text("image")
        key = names.key(name if image_name else posixpath.splitext(name)[0])
        if "answers" not in row.fields:
            yield Question(name, key, row.text("question"), None, language=language, metric="vizwiz")
            continue
        given = row.given()
        yield Question(
            name, key, row.text("question"), normalised_scores(given.texts), given.texts, row.word("answer_type", ""),
            language=language, answerable=_answerable(row), metric="vizwiz", confidences=given.sure,
        )  # fmt: skip


def _answerable(row: Row) -> bool | None:
    value = row.fields.get("answerable")
    if value not in (None, 0, 1):
        row.refuse("answerable", "expected 0 or 1")
    return None if value is None else bool(value)
