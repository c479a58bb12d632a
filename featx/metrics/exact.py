"""Accuracy of data sets with one right answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featx.metrics.normalise import convert_answer
from featx.metrics.report import Tally

if TYPE_CHECKING:
    from featx.data.question import Question


def score_gqa(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """GQA accuracy: the prediction is the answer, letter by letter. Percentages rounded to two digits: overall, and for
    each structural type (verify, query, ...) and semantic type (object, attribute, ...).
    """
    tally = Tally("structural type", "semantic type")
    for q in questions:
        tally.add(float(predictions[q.id] == q.answer), q.question_type, q.answer_type)
    return tally.report()


def score_labels(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """The prediction is the answer that the data set settled on, letter by letter: overall, for each language and
    answer type. Multilingual VQA is measured so (gchhablani/multilingual-vqa), by ``multiple_choice_answer``.
    """
    tally = Tally("language", "answer type")
    for q in questions:
        tally.add(float(predictions[q.id] == q.answer), q.language, q.answer_type)
    return tally.report()


def score_converted(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """Prediction and answer are the same in the form of LXMERT's answer table (:func:`convert_answer`): overall, for
    each language. Visual Genome's answers are written as sentences, ``A man.``, and learned in that form, ``man``.
    """
    tally = Tally("language")
    for q in questions:
        tally.add(float(convert_answer(predictions[q.id]) == convert_answer(q.answer)), q.language)
    return tally.report()
