"""``featx evaluate PREDICTIONS QUESTIONS...``: score a prediction file against a split."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from featx.cli.output import add_json, print_json, table
from featx.data import vqa
from featx.data.document import Document, load_document
from featx.data.predictions import check_answered, read_predictions
from featx.data.question import Question
from featx.data.read import parse_questions, recognise
from featx.errors import UsageError
from featx.metrics.score import METRICS, score


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("predictions", help="the file that was, or would be, submitted (EvalAI's JSON)")
    parser.add_argument(
        "questions", nargs="+", help="of the split: VQAv2 questions and annotations, GQA, VizWiz or LXMERT JSON"
    )
    parser.add_argument("--metric", choices=tuple(METRICS), help="default: that of the questions' format")
    parser.add_argument("--partial", action="store_true", help="score the questions that have a prediction")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read, pair, score, print."""
    metric, questions = split([load_document(path) for path in options.questions], options.metric)
    predictions = read_predictions(options.predictions, "answerability" if metric == "answerability" else None)
    asked = len(questions)
    if options.partial:
        questions = [q for q in questions if q.id in predictions]
        if not questions:
            raise UsageError(
                f"{options.predictions} answers none of these {asked} questions", "give those of its split"
            )
    else:
        check_answered((q.id for q in questions), predictions, options.predictions)
    figures = {"metric": metric, "unanswered": asked - len(questions), **score(metric, questions, predictions)}
    if options.json:
        print_json(figures)
    else:
        show(figures)


def split(files: Sequence[Document], metric: str | None) -> tuple[str, list[Question]]:
    """The metric, and the questions of all files. Annotations belong to the questions in their order."""
    notes = [file for file in files if vqa.annotates(file.content)]
    asked = [(recognise(file), file) for file in files if not vqa.annotates(file.content)]
    formats = [name for name, _ in asked]
    if len(notes) != formats.count("vqa"):
        raise UsageError(
            f"{len(notes)} annotation files for {formats.count('vqa')} question files of VQAv2",
            "give each questions file of VQAv2 and its annotations file, both in the same order",
        )
    partners = iter(notes)
    questions: dict[int | str, Question] = {}
    for name, file in asked:
        for q in parse_questions(name, file, next(partners) if name == "vqa" else None, None):
            if questions.setdefault(q.id, q) is not q:
                file.refuse(f"question {q.id!r} is in another file as well", "give files with different questions")
    return metric or choose(questions.values()), list(questions.values())


def choose(questions: Iterable[Question]) -> str:
    """The metric of their data sets. Raises UsageError when they do not agree on one."""
    found = {q.metric for q in questions}
    if len(found) != 1:
        raise UsageError(f"these questions are scored by {', '.join(sorted(found))}", "choose one with --metric")
    return found.pop()


def show(figures: dict[str, Any]) -> None:
    """The same for people: percent, the kinds of questions below each other."""
    rows = [
        (METRICS[figures["metric"]].title, f"{figures['overall']:6.2f} %"),
        ("questions", f"{figures['questions']:6}"),
    ]
    if figures["unanswered"]:
        rows.append(("unanswered, not scored", f"{figures['unanswered']:6}"))
    for name, value in figures.items():
        if isinstance(value, dict) and value:
            rows += [(name, "")] + [(f"  {kind}", f"{percent:6.2f} %") for kind, percent in sorted(value.items())]
        elif isinstance(value, float) and name != "overall":
            rows.append((name, f"{value:6.2f} %"))
    print(table(rows))
