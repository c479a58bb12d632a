"""The layouts of GQA and of Visual Genome's question answers: one answer to each question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featx.data.document import Document, Row
from featx.data.names import PictureNames
from featx.data.question import Question
from featx.metrics.normalise import convert_answer


def fits_gqa(content: Any) -> bool:
    """Whether this is ``*_questions.json``: question id -> question."""
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    return isinstance(first, dict) and "imageId" in first


def read_gqa(questions: Document, image_name: str | None = None, language: str = "en") -> Iterator[Question]:
    """GQA (``train_balanced_questions.json``). The structural type becomes ``question_type``, the semantic
    ``answer_type``; answers count as written, for GQA compares them so. Test files have no answers.
    """
    if not fits_gqa(questions.content):
        questions.refuse("it does not map question ids to objects with 'imageId'", "expected a questions file of GQA")
    names = PictureNames(image_name or "{image_id}")
    for number, fields in questions.content.items():
        row = Row(questions, f"question {number!r}", fields)
        types = fields.get("types") or {}
        kinds = Row(questions, f"'types' of {row.place}", types)
        answer = row.word("answer", "")
        yield Question(
            number, names.key(row.identifier("imageId")), row.text("question"),
            {answer: 1.0} if "answer" in fields else None, (answer,) if "answer" in fields else (),
            _kind(kinds, "semantic"), _kind(kinds, "structural"), language, answer, metric="gqa",
        )  # fmt: skip


def _kind(kinds: Row, name: str) -> str:
    return kinds.word(name) if kinds.fields.get(name) is not None else ""


def fits_visual_genome(content: Any) -> bool:
    """Whether this is ``question_answers.json``: pictures with their ``qas``."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "qas" in content[0]


def read_visual_genome(questions: Document, image_name: str | None = None, language: str = "en") -> Iterator[Question]:
    """Visual Genome (``question_answers.json``): a list of ``{id, qas: [{qa_id, image_id, question, answer}]}``.

    Its answers are sentences of a few words with a period; they become LXMERT's form (:func:`convert_answer`).
    """
    if not fits_visual_genome(questions.content):
        questions.refuse("it is no list of pictures with 'qas'", "expected question_answers.json of Visual Genome")
    names = PictureNames(image_name or "{image_id}")
    for picture in questions.rows(questions.content, "pictures"):
        number = picture.identifier("id")
        for row in questions.rows(picture.fields.get("qas"), f"'qas' of {picture.place}"):
            answer = row.word("answer")
            yield Question(
                row.identifier("qa_id"), names.key(number), row.text("question"), {convert_answer(answer): 1.0},
                (answer,), language=language, answer=answer, metric="vg-qa",
            )  # fmt: skip
