"""Metrics by name: what each computes, and what a question must have to be measured by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError
from featx.metrics.exact import converted, exact, score_converted, score_gqa, score_labels
from featx.metrics.vizwiz import human, score_answerability, score_vizwiz
from featx.metrics.vqa import FEWEST, agreement, score_soft, score_vqa, soft

if TYPE_CHECKING:
    from featx.data.question import Question


@dataclass(frozen=True)
class Metric:
    """``title`` for people; ``score(questions, predictions)`` -> figures, with ``overall`` in percent; ``applies`` to a
    question that has what it needs; ``value``: the type of a prediction.
    """

    title: str
    score: Callable[..., dict[str, Any]]
    applies: Callable[[Question], bool]
    needs: str
    value: type = str


SEVERAL = "answers of several annotators"

METRICS = {
    "vqa": Metric("official VQA accuracy", score_vqa, lambda q: len(q.answers) >= FEWEST, SEVERAL),
    "gqa": Metric("GQA accuracy", score_gqa, lambda q: bool(q.answer), "an answer"),
    "vg-qa": Metric("exact answers, in LXMERT's form", score_converted, lambda q: bool(q.answer), "an answer"),
    "vizwiz": Metric("VizWiz accuracy", score_vizwiz, lambda q: len(q.answers) >= FEWEST, SEVERAL),
    "soft": Metric("mean soft score", score_soft, lambda q: q.scores is not None, "soft scores"),
    "labels": Metric("exact answers", score_labels, lambda q: bool(q.answer), "an answer the data set settled on"),
    "answerability": Metric(
        "average precision of unanswerable", score_answerability, lambda q: q.answerable is not None, "'answerable'",
        float,
    ),
}  # fmt: skip

# metric -> the accuracy of one answer, 0 to 1, of which it is the mean
_RULES = {"vqa": agreement, "gqa": exact, "vg-qa": converted, "vizwiz": human, "labels": exact, "soft": soft}


def accuracy(question: Question, prediction: str) -> float:
    """Of one answer, 0 to 1, by the metric of its data set; by soft scores where the question lacks what that needs."""
    applies = METRICS[question.metric].applies(question)
    return _RULES[question.metric if applies else "soft"](question, prediction)


def score(name: str, questions: Sequence[Question], predictions: Mapping[int | str, Any]) -> dict[str, Any]:
    """The figures of one metric over ``questions``, each of which must have a prediction.

    Raises UsageError for an unknown metric, a question that lacks what it needs, and a prediction of another type.
    """
    if name not in METRICS:
        raise UsageError(f"there is no metric {name!r}", f"known are {', '.join(METRICS)}")
    metric = METRICS[name]
    for q in questions:
        if not metric.applies(q):
            raise UsageError(
                f"question {q.id!r} has no {metric.needs.removeprefix('an ')}",
                f"the metric {name} needs {metric.needs}",
            )
        if q.id not in predictions:
            raise UsageError(f"question {q.id!r} has no prediction", "predict every question that is to be scored")
        if not isinstance(predictions[q.id], metric.value):
            raise UsageError(
                f"the prediction for question {q.id!r} is {predictions[q.id]!r}",
                f"the metric {name} needs {'a number' if metric.value is float else 'text'}",
            )
    return metric.score(questions, predictions)
