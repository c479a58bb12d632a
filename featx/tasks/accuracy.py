"""The figures of a task that answers questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featx.data import Question
from featx.metrics import accuracy
from featx.metrics.report import Tally

_MOST_KINDS = 12  # the 65 question types of VQAv2 would bury the rest


def accuracies(examples: Sequence[Question], answers: Sequence[Any]) -> dict[str, float]:
    """Percent: ``accuracy``, by the rule of each question's data set; then of each type, where these are few."""
    tally = Tally("question type", "answer type")
    for question, answer in zip(examples, answers, strict=True):
        tally.add(accuracy(question, answer), question.question_type, question.answer_type)
    report = tally.report()
    kinds = [report[f"per {kind}"] for kind in tally.kinds]
    return {"accuracy": report["overall"]} | {k: v for per in kinds if len(per) <= _MOST_KINDS for k, v in per.items()}
