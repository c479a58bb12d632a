"""The lists of the LXMERT repository: questions that name their picture by its key and carry their soft scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featx.data.document import Document, Row
from featx.data.names import PictureNames
from featx.data.question import Question


def fits(content: Any) -> bool:
    """Whether this is a list such as ``train.json``, ``nominival.json`` or ``minival.json``."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "img_id" in first and "sent" in first


def read(questions: Document, image_name: str | None = None, language: str = "en") -> Iterator[Question]:
    """VQA or GQA as LXMERT distributes them. The scores in ``label`` are taken as given; test lists have none."""
    if not fits(questions.content):
        questions.refuse("it is no list of objects with 'img_id' and 'sent'", "expected a question list of LXMERT")
    names = PictureNames(image_name or "{image_id}")
    for row in questions.rows(questions.content, "questions"):
        yield Question(
            row.identifier("question_id"), names.key(row.identifier("img_id")), row.text("sent"),
            soft_scores(row, "label", row.fields["label"]) if "label" in row.fields else None,
            answer_type=row.word("answer_type", ""), question_type=row.word("question_type", ""), language=language,
        )  # fmt: skip


def soft_scores(row: Row, field: str, label: Any) -> dict[str, float]:
    """``label``, which is or is in ``field``: answer -> score in [0, 1]; scores of zero are left out."""
    if not isinstance(label, dict) or not all(isinstance(s, int | float) and 0 <= s <= 1 for s in label.values()):
        row.refuse(field, "expected an object of answers with scores from 0 to 1")
    return {answer: float(score) for answer, score in label.items() if score}
