"""VQA accuracy as the challenge computes it (GT-Vision-Lab/VQA, ``vqaEval.py``), and the soft score derived from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.metrics.normalise import clean, normalise_answer
from featx.metrics.report import report

if TYPE_CHECKING:
    from featx.data.question import Question

ENOUGH = 3  # annotators who agree make an answer right
FEWEST = 2  # answers of a question: the rule leaves one out, and nobody agrees with an only one


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Answer -> its accuracy if predicted: 0.3, 0.6, 0.9 and 1 for 1, 2, 3 and 4 or more of ten.

    An answer without a score (the only one) is left out. See :func:`leave_one_out`.
    """
    scores = {answer: leave_one_out(count, len(answers)) for answer, count in Counter(answers).items()}
    return {answer: score for answer, score in scores.items() if score}


def leave_one_out(agreeing: int, annotators: int) -> float:
    """The official rule: leave each annotator out once, count min(1, agreeing others / 3), take the mean; 0 to 1.

    Of n annotators, c of whom agree, c are left out with c - 1 others agreeing and n - c with c: one rounding in all.
    """
    total = agreeing * min(ENOUGH, agreeing - 1) + (annotators - agreeing) * min(ENOUGH, agreeing)
    return total / (ENOUGH * annotators)


def compared(prediction: str, answers: Sequence[str]) -> tuple[str, list[str]]:
    """Prediction and answers in the form in which they are compared: normalised, unless all answers are one string."""
    given, said = [clean(answer) for answer in answers], clean(prediction)
    if len(set(given)) > 1:
        given, said = [normalise_answer(answer) for answer in given], normalise_answer(said)
    return said, given


def vqa_accuracy(prediction: str, answers: Sequence[str], answer_ids: Sequence[int] = ()) -> float:
    """Accuracy from 0 to 1 of a prediction, given the raw answers of (usually ten) annotators.

    Each annotator is left out once; the prediction is right when three of the others agree, a third right when one
    does; the mean counts. ``answer_ids``: annotators' numbers where they are not all different: whoever has the same
    number and gives the same answer is left out together.
    """
    said, given = compared(prediction, answers)
    marks = list(zip(given, answer_ids or range(len(given)), strict=True))
    alike, right = Counter(marks), given.count(said)
    return sum(min(1.0, (right - (text == said) * alike[text, i]) / ENOUGH) for text, i in marks) / len(marks)


def agreement(question: Question, prediction: str) -> float:
    """:func:`vqa_accuracy` of an answer to a question."""
    return vqa_accuracy(prediction, question.answers, question.answer_ids)


def soft(question: Question, prediction: str) -> float:
    """The soft score of an answer to a question."""
    return (question.scores or {}).get(prediction, 0.0)


_KINDS = {"answer type": "answer_type", "question type": "question_type"}


def score_vqa(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """Percentages rounded to two digits: overall, and for each answer type and question type."""
    return report(questions, predictions, agreement, _KINDS)


def score_soft(questions: Iterable[Question], predictions: Mapping[int | str, str]) -> dict[str, Any]:
    """The soft scores of the predicted answers, in percent: overall, and for each answer type and question type.

    What LXMERT reports while it trains. Equal to the official accuracy where the scores cover all answers.
    """
    return report(questions, predictions, soft, _KINDS)
