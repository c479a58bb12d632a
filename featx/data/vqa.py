"""The layout of VQAv2: one file of questions, one of annotations with ten answers each (visualqa.org/download)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from featx.data.document import Document, Row
from featx.data.names import PictureNames, coco_names
from featx.data.question import Question
from featx.metrics.normalise import normalise_answer
from featx.metrics.vqa import FEWEST, soft_scores


def fits(content: Any) -> bool:
    """Whether this is a file of questions."""
    return isinstance(content, dict) and "questions" in content


def annotates(content: Any) -> bool:
    """Whether this is a file of annotations."""
    return isinstance(content, dict) and isinstance(content.get("annotations"), list) and "images" not in content


def read(
    questions: Document, annotations: Document | None = None, image_name: str | None = None, language: str = "en"
) -> Iterator[Question]:
    """The questions in their order, with their answers when there are annotations.

    Raises UsageError for another layout, and when the two files are not about the same questions and pictures.
    """
    if not fits(questions.content):
        questions.refuse("it has no 'questions'", "expected the questions file of the VQAv2 layout")
    notes = _annotations(annotations) if annotations else None
    names = coco_names(image_name, questions.content.get("data_subtype"))
    for row in questions.rows(questions.content["questions"], "questions"):
        note = _partner(row, notes) if notes is not None else None
        yield _question(row, note, names, language)
    if annotations and notes:
        first = next(iter(notes))
        annotations.refuse(
            f"{len(notes)} annotations have no question in {questions.name}, the first has question_id {first!r}",
            "give the annotations that belong to these questions",
        )


def _annotations(file: Document) -> dict[int | str, Row]:
    """Annotations by question id."""
    if not annotates(file.content):
        file.refuse("it has no 'annotations'", "expected the annotations file of the VQAv2 layout")
    found: dict[int | str, Row] = {}
    for row in file.rows(file.content["annotations"], "annotations"):
        if found.setdefault(row.identifier("question_id"), row) is not row:
            file.refuse(f"question_id {row.fields['question_id']!r} is annotated twice", "expected one annotation each")
    return found


def _partner(question: Row, notes: dict[int | str, Row]) -> Row:
    """The annotation of a question, taken out of ``notes``."""
    number = question.identifier("question_id")
    note = notes.pop(number, None)
    if note is None:
        question.file.refuse(
            f"{question.place} with question_id {number!r} has no annotation, or comes twice",
            "give the annotations that belong to these questions",
        )
    picture = question.identifier("image_id")
    if note.fields.get("image_id", picture) != picture:
        note.refuse("image_id", f"expected {picture!r}, as in {question.file.name}")
    return note


def _question(row: Row, note: Row | None, names: PictureNames, language: str) -> Question:
    number, picture = row.identifier("question_id"), names.key(row.identifier("image_id"))
    if note is None:
        return Question(number, picture, row.text("question"), None, language=language, metric="vqa")
    given = note.given()
    if len(given.texts) < FEWEST:
        note.refuse("answers", f"expected at least {FEWEST}, ten in the published files")
    return Question(
        number, picture, row.text("question"), normalised_scores(given.texts), given.texts,
        note.word("answer_type", ""), note.word("question_type", ""), language,
        note.word("multiple_choice_answer", ""), given.ids, metric="vqa",
    )  # fmt: skip


@lru_cache(maxsize=1 << 16)  # most questions are answered alike; equal tables are one object
def normalised_scores(answers: tuple[str, ...]) -> dict[str, float]:
    """Soft scores of the normalised answers.

    All answers are normalised, also where the official accuracy would not (when all are the same string): a model
    answers out of a list of normalised answers, and what was meant is the same.
    """
    return soft_scores([normalise_answer(text) for text in answers])
