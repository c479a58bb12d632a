"""Accuracy of data sets with one right answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featx.metrics.normalise import convert_answer
from featx.metrics.report import report

if TYPE_CHECKING:
    from featx.data.question import Question


def exact(question: Question, prediction: str) -> float:
    """1 for the answer that the data set settled on, letter by letter, else 0."""
    return float(prediction == question.answer)


def converted(question: Question, prediction: str) -> float:
    """1 where prediction and answer are the same in the form of LXMERT's answer table (:func:`convert_answer`).

    Visual Genome's answers are written as sentences, ``A man.``, and learned in that form, ``man``.
    """
    return float(convert_answer(prediction) == convert_answer(question.answer))


def score_gqa(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """GQA accuracy: the prediction is the answer, letter by letter. Percentages rounded to two digits: overall, and for
    each structural type (verify, query, ...) and semantic type (object, attribute, ...).
    """
    return report(questions, predictions, exact, {"structural type": "question_type", "semantic type": "answer_type"})


def score_labels(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """The prediction is the answer that the data set settled on, letter by letter: overall, for each language and
    answer type. Multilingual VQA is measured so (gchhablani/multilingual-vqa), by ``multiple_choice_answer``.
    """
    return report(questions, predictions, exact, {"language": "language", "answer type": "answer_type"})


def score_converted(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """Exact answers in LXMERT's form, see :func:`converted`: overall, for each language."""
    return report(questions, predictions, converted, {"language": "language"})
