"""The figures of a split: answers, answerability, and the types of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featx.data import Question
from featx.data.answer_types import Typing
from featx.data.selection import Selector
from featx.metrics import accuracy, score_answerability
from featx.metrics.report import Tally, percent


def figures(
    questions: Sequence[Question], predictions: Sequence[Any], selector: Selector, typing: Typing
) -> dict[str, float]:
    """Percent: ``accuracy``, by the rule of VizWiz; ``ap_unanswerable`` and ``ap_answerable``, average precision with
    this as the positive class, and ``f1_unanswerable``, where both kinds are there; ``type_accuracy``, how often the
    type of the answer is told; then the accuracy of each type of answer.
    """
    tally, typed = Tally("answer type"), []
    for question, said in zip(questions, predictions, strict=True):
        tally.add(accuracy(question, said["answer"]), question.answer_type)
        kind = typing.index(question, selector(question))
        if kind is not None:
            typed.append(float(typing.names[kind] == said["type"]))
    report = tally.report()
    found: dict[str, float] = {"accuracy": report["overall"], **_answerability(questions, predictions)}
    if typed:
        found["type_accuracy"] = percent(typed)
    return found | dict(report["per answer type"])


def _answerability(questions: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
    known = [
        (q, said["answerable"]) for q, said in zip(questions, predictions, strict=True) if q.answerable is not None
    ]
    if len({q.answerable for q, _ in known}) < 2:
        return {}
    scores = score_answerability([q for q, _ in known], {q.id: chance for q, chance in known})
    return {
        "ap_unanswerable": scores["overall"],
        "ap_answerable": scores["average precision, answerable"],
        "f1_unanswerable": scores["f1"],
    }
