"""Questions about records, answered together, on one thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.consumer import TextEmbeddings
from featx.errors import FeatxError
from featx.serve.answers import occlusion
from featx.serve.answers.models import Model, Models

if TYPE_CHECKING:
    from featx.predictor import Predictor
    from featx.record import Record


@dataclass(frozen=True, eq=False)
class Question:
    """One question about one record. explain: whether to say which regions mattered, which costs as much as many."""

    model: Model
    record: Record
    text: str
    top_k: int
    explain: bool = False


@dataclass(frozen=True, eq=False)
class Reply:
    """The best answers, surest first, and, if asked for, what each region weighs (``occlusion``).

    cut: the question is longer than the model reads, and its end was lost.
    """

    answers: list[dict[str, Any]]
    weights: list[float] | None = None
    cut: bool = False


class Replies:
    """The work of the answering thread."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._guarded: set[str] = set()

    def __call__(self, questions: Sequence[Question]) -> list[Reply | Exception]:
        """Replies to questions to one model."""
        predictor = self._predictor(questions[0].model)
        records = [predictor.record(one.record) for one in questions]
        batch = predictor.sight.collate(records)
        found = predictor.batch_answers(batch, [one.text for one in questions], max(one.top_k for one in questions))
        return [_reply(predictor, one, answers[: one.top_k]) for one, answers in zip(questions, found, strict=True)]

    def _predictor(self, model: Model) -> Predictor:
        predictor = model.predictor
        if model.name not in self._guarded:
            self._guarded.add(model.name)
            self._guard(model, predictor)
        return predictor

    def _guard(self, model: Model, predictor: Predictor) -> None:
        """A model that reads embeddings of texts has them made by the extractor, which the other thread uses, too."""
        consumer: Any = predictor.model
        if isinstance(consumer, TextEmbeddings) and consumer.embed is not None and consumer.cut is not None:
            consumer.embed, consumer.cut = (self._alone(model, one) for one in (consumer.embed, consumer.cut))

    def _alone(self, model: Model, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The work, while nothing else is done with the extractor."""

        def locked(texts: Any) -> Any:
            with self.models.looking:
                self.models.live(model)
                return work(texts)

        return locked


def _reply(predictor: Predictor, question: Question, answers: list[dict[str, Any]]) -> Reply | Exception:
    """A reply, in which every number is one."""
    weights = occlusion.weights(predictor, question.record, question.text) if question.explain else None
    numbers = [answer["score"] for answer in answers] + (weights or [])
    if not all(map(math.isfinite, numbers)):
        return FeatxError(f"the model {question.model.name} answers with numbers that are none")
    return Reply(answers, weights, predictor.is_longer(question.text))
