"""``featx evaluate PREDICTIONS QUESTIONS...``: score a prediction file against a split; captions, too."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from featx.cli.output import add_json, print_json, table
from featx.data import captions, vqa
from featx.data.document import Document, load_document
from featx.data.predictions import check_answered, read_predictions
from featx.data.question import Question
from featx.data.read import parse_questions, read_questions, recognise
from featx.data.tsv import SUFFIXES
from featx.errors import UsageError
from featx.metrics.captions import caption_scores
from featx.metrics.score import METRICS, score


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("predictions", help="the file that was, or would be, submitted (EvalAI's JSON)")
    parser.add_argument(
        "questions",
        nargs="+",
        help="of the split: VQAv2 questions and annotations, GQA, VizWiz or LXMERT JSON, or a table (.tsv); "
        "COCO captions for captions",
    )
    parser.add_argument("--vocabulary", help="of a table of questions (.tsv): the answers its classes are counted in")
    parser.add_argument("--metric", choices=tuple(METRICS), help="default: that of the questions' format")
    parser.add_argument("--partial", action="store_true", help="score the questions that have a prediction")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read, pair, score, print."""
    if any(path.endswith(SUFFIXES) for path in options.questions):
        show_answers(options, *table_split(options))
        return
    if options.vocabulary:
        raise UsageError("--vocabulary is for a table of questions", "leave it out")
    files = [load_document(path) for path in options.questions]
    if all(captions.fits(file.content) for file in files):
        show_captions(options, files)
        return
    show_answers(options, *split(files, options.metric))


def show_answers(options: argparse.Namespace, metric: str, questions: list[Question]) -> None:
    """The accuracy of a prediction file."""
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


def show_captions(options: argparse.Namespace, files: Sequence[Document]) -> None:
    """BLEU of a results file, against all that the files say about each of its pictures."""
    said: dict[int | str, list[str]] = {}
    for file in files:
        for number, texts in captions.texts_by_picture(file).items():
            said.setdefault(number, []).extend(texts)
    written = read_predictions(options.predictions, "captions")
    asked = len(said)
    if options.partial:
        said = {number: texts for number, texts in said.items() if number in written}
    else:
        check_answered(said, written, options.predictions)
    if not said:
        raise UsageError(f"{options.predictions} describes none of these {asked} pictures", "give those of its split")
    scores = caption_scores([written[number] for number in said], list(said.values()))
    figures = {"metric": "bleu", "pictures": len(said), "unanswered": asked - len(said), **scores}
    if options.json:
        print_json(figures)
        return
    rows = [(name.upper().replace("BLEU", "BLEU-"), f"{score:.4f}") for name, score in scores.items()]
    rows.append(("pictures", str(len(said))))
    if asked > len(said):
        rows.append(("not described, not scored", str(asked - len(said))))
    print(table(rows))


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


def table_split(options: argparse.Namespace) -> tuple[str, list[Question]]:
    """The metric, and the questions of a table, which counts them from 0: so there is one."""
    if len(options.questions) > 1 or not options.vocabulary:
        raise UsageError(
            f"{len(options.questions)} files, with a table among them, and {options.vocabulary or 'no'} vocabulary",
            "give one table, and --vocabulary FILE",
        )
    questions = read_questions({"questions": options.questions[0], "vocabulary": options.vocabulary})
    return options.metric or choose(questions), questions


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
