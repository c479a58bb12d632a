"""``lxmert-vqa``: questions whose ten annotators may disagree (VQAv2, VizWiz, Visual Genome, the scenes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from featx.data import Question
from featx.metrics.report import Tally
from featx.metrics.vqa import FEWEST, vqa_accuracy
from featx.tasks.answering import Answering

_MOST_KINDS = 12  # the 65 question types of VQAv2 would bury the rest


class LxmertVqa(Answering):
    """Scored by the official VQA accuracy."""

    name: ClassVar[str] = "lxmert-vqa"

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """Percent: ``accuracy``, then by answer type and by question type, where these are few."""
        tally = Tally("answer type", "question type")
        for question, answer in zip(examples, predictions, strict=True):
            tally.add(accuracy(question, answer), question.answer_type, question.question_type)
        report = tally.report()
        kinds = [report[f"per {kind}"] for kind in tally.kinds]
        return {"accuracy": report["overall"]} | {
            k: v for per in kinds if len(per) <= _MOST_KINDS for k, v in per.items()
        }


def accuracy(question: Question, answer: str) -> float:
    """By the annotators' answers; by the soft scores where there is one at most (LXMERT's lists, Visual Genome)."""
    if len(question.answers) >= FEWEST:
        return vqa_accuracy(answer, question.answers, question.answer_ids)
    return (question.scores or {}).get(answer, 0.0)
