"""``lxmert-gqa``: questions with exactly one right answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from featx.data import Question
from featx.metrics.report import Tally
from featx.tasks.answering import Answering


class LxmertGqa(Answering):
    """Scored by equality with the answer. All answers of both splits are in the list, 1842 for GQA."""

    name: ClassVar[str] = "lxmert-gqa"
    published_answers: ClassVar[int] = 1

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """Percent: ``accuracy``, then by structural and semantic type."""
        tally = Tally("semantic type", "structural type")
        for question, answer in zip(examples, predictions, strict=True):
            right = float(answer in (question.scores or {}))
            tally.add(right, question.answer_type, question.question_type)
        report = tally.report()
        return {"accuracy": report["overall"], **report["per structural type"], **report["per semantic type"]}
