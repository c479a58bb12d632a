"""Prediction files in the forms that the challenges take (EvalAI): a JSON list with one object for each question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.data.document import Document, Row, load_document
from featx.data.question import Question
from featx.errors import UsageError

# form -> names of the question's id and of the prediction
FORMS = {
    "vqa": ("question_id", "answer"),
    "gqa": ("questionId", "prediction"),
    "vizwiz": ("image", "answer"),
    "answerability": ("image", "answerable"),
    "captions": ("image_id", "caption"),
}
Predictions = Mapping[int | str, Any]


def format_predictions(questions: Sequence[Question], predictions: Predictions, form: str) -> str:
    """The text of a prediction file: all ``questions`` in their order; ``form`` is a name in ``FORMS``.

    Raises UsageError unless each is answered once.
    """
    if form not in FORMS:
        raise UsageError(f"there is no form {form!r} of predictions", f"known are {', '.join(FORMS)}")
    check_answered((q.id for q in questions), predictions, "the predictions")
    number, value = FORMS[form]
    rows = [{number: str(q.id) if form == "gqa" else q.id, value: predictions[q.id]} for q in questions]
    return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"


def check_answered(ids: Iterable[int | str], predictions: Predictions, name: str) -> None:
    """Raise UsageError, with counts and the first id, unless every question has a prediction and no other has."""
    expected = dict.fromkeys(ids)
    missing = [i for i in expected if i not in predictions]
    extra = [i for i in predictions if i not in expected]
    if missing or extra:
        found = []
        if missing:
            found.append(f"no answer to {len(missing)} of {len(expected)} questions, the first is {missing[0]!r}")
        if extra:
            found.append(f"answers to {len(extra)} that are not asked, the first is {extra[0]!r}")
        alike = {str(i) for i in missing} & {str(i) for i in extra}
        kinds = "; ids are text in one file and numbers in the other" if alike else ""
        raise UsageError(f"{name}: {' and '.join(found)}{kinds}", "predict exactly the questions of this split")


def read_predictions(path: str | Path, form: str | None = None) -> dict[int | str, Any]:
    """Question id -> prediction: text, or a number from 0 to 1 in the form ``answerability``.

    The form is recognised by the names in the first entry unless it is given. Raises UsageError, naming the entry, for
    another layout and for a question that is answered twice.
    """
    file = load_document(path)
    rows = list(file.rows(file.content, "predictions"))
    if not rows:
        file.refuse("it holds no prediction", "expected a list with one object for each question")
    number, value = FORMS[form or _recognise(file, rows[0])]
    found: dict[int | str, Any] = {}
    for row in rows:
        question = row.identifier(number)
        if question in found:
            file.refuse(f"{row.place} answers {question!r} again", "expected one answer to each question")
        found[question] = _chance(row, value) if value == "answerable" else row.word(value)
    return found


def _recognise(file: Document, row: Row) -> str:
    for form, names in FORMS.items():
        if all(name in row.fields for name in names):
            return form
    known = "; ".join(" and ".join(names) for names in FORMS.values())
    file.refuse(f"{row.place} has {', '.join(row.fields) or 'no fields'}", f"expected {known}")


def _chance(row: Row, field: str) -> float:
    value = row.fields.get(field)
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        row.refuse(field, "expected a number from 0 to 1")
    return float(value)
