"""VizWiz accuracy and answerability, as the challenge computes them (vizwiz.org; ``vqaEval.py`` of its Python API)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.metrics.normalise import VIZWIZ, normalise_answer
from featx.metrics.ranking import average_precision, f1
from featx.metrics.report import percent, report
from featx.metrics.vqa import ENOUGH, leave_one_out

if TYPE_CHECKING:
    from featx.data.question import Question


def agreeing(prediction: str, answers: Sequence[str]) -> int:
    """How many annotators wrote exactly what the prediction is after its normalisation; answers stay as they are."""
    return answers.count(normalise_answer(prediction, VIZWIZ))


def vizwiz_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Accuracy from 0 to 1: the mean over all ways to leave one annotator out of min(1, agreeing others / 3)."""
    return leave_one_out(agreeing(prediction, answers), len(answers))


def human(question: Question, prediction: str) -> float:
    """:func:`vizwiz_accuracy` of an answer to a question."""
    return vizwiz_accuracy(prediction, question.answers)


def simple_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(1, agreeing annotators / 3), which leaves nobody out; papers report this form as well."""
    return min(1.0, agreeing(prediction, answers) / ENOUGH)


def score_vizwiz(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """Percentages rounded to two digits: overall, for each answer type, and ``simple``: the simple form overall."""
    asked = list(questions)
    simple = [simple_accuracy(predictions[q.id], q.answers) for q in asked]
    return {**report(asked, predictions, human, {"answer type": "answer_type"}), "simple": percent(simple)}


def score_answerability(questions: Iterable[Question], predictions: Mapping[int | str, float]) -> dict[str, Any]:
    """Of scores from 0 to 1 that a question is answerable: percentages rounded to two digits.

    ``average precision`` and ``f1`` have *unanswerable* as the positive class, as in the code of the challenge, F1 of
    those with a score under 0.5; ``average precision, answerable`` is the other way round, as its page words it.
    Raises UsageError when all questions are of one kind.
    """
    known = [(bool(q.answerable), float(predictions[q.id])) for q in questions]
    yes, scores = [answerable for answerable, _ in known], [score for _, score in known]
    no, against = [not answerable for answerable in yes], [1.0 - score for score in scores]
    precision = average_precision(no, against)
    return {
        "questions": len(known),
        "overall": percent([precision]),
        "f1": percent([f1(no, [score > 0.5 for score in against])]),
        "average precision, answerable": percent([average_precision(yes, scores)]),
    }
