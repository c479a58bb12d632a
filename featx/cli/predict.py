"""``featx predict MODEL STORE QUESTIONS... -o FILE``: the answers of a whole split, in the form of the challenges."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from featx.cli.output import add_json, print_json
from featx.cli.panel import pieces
from featx.cli.viewing import add_view, view_asked
from featx.delivery import delivery
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.data import Question
    from featx.predictor import Predictor

_SHOWN = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="folder, weights file or hub id; `default` is the one that comes with featx")
    parser.add_argument("store", help="folder or URL of the store with the pictures' features")
    parser.add_argument("questions", nargs="+", help="files of questions: VQAv2, GQA, Visual Genome, VizWiz, LXMERT, "
                        "or a table (.tsv)")  # fmt: skip
    parser.add_argument("-o", "--out", required=True, help="file of answers to write (EvalAI)")
    parser.add_argument("--form", choices=("vqa", "gqa", "vizwiz", "answerability"),
                        help="form of the file (default: by the questions)")  # fmt: skip
    parser.add_argument("--format", help="layout of the questions, if it is not recognised")
    parser.add_argument("--image-name", help="template of the store's keys, such as 'scene_{image_id:012d}'")
    parser.add_argument("--scores", metavar="JSONL", help="write the best answers with their scores, a line for each")
    parser.add_argument("--top-k", type=int, default=5, help="answers in --scores (default 5)")
    parser.add_argument("--answers", help="the model's list of answers (label2ans), if it does not carry one")
    parser.add_argument("--tokenizer", help="the model's vocabulary, if it does not carry one")
    parser.add_argument("--texts", help="store of the questions' embeddings, for a model that reads these")
    parser.add_argument("--control", choices=("no-picture", "other-picture"),
                        help="answer without the picture, or about another one, for comparison")  # fmt: skip
    parser.add_argument("--batch", type=int, default=64, help="questions per network call (default 64)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--allow-mismatch", action="store_true", help="accept features of another extractor")
    parser.add_argument("--quiet", action="store_true", help="no progress; notes and errors stay")
    add_view(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read, answer, write."""
    from featx.data.predictions import format_predictions
    from featx.predictor import Predictor
    from featx.store import open_store

    for name in ("batch", "top_k"):
        if getattr(options, name) < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}", "give a whole number of 1 or more"
            )
    questions, layout = read(options)
    predictor = Predictor(
        None if options.model == "default" else options.model, open_store(options.store, view=view_asked(options)),
        texts=options.texts, answers=options.answers, tokenizer=options.tokenizer,
        device=options.device, batch=options.batch, allow_mismatch=options.allow_mismatch,
    )  # fmt: skip
    form = options.form or form_of(layout, questions, predictor)
    check_pictures(questions, predictor)
    for note in predictor.notes:
        print(f"featx: allowed: {note}", file=sys.stderr)
    with delivery(options.out) as out:  # a place that cannot be written is told before the work, not after it
        found = answer(questions, predictor, options, form)
        out.write(format_predictions(questions, found, form).encode())
    cut = sum(predictor.is_longer(q.text) for q in questions)
    if cut:
        length = pieces(predictor.model)
        print(f"featx: {cut} questions are longer than {length}: their ends were cut", file=sys.stderr)
    if options.json:
        print_json({"questions": len(questions), "form": form, "out": options.out, "truncated": cut})
    else:
        print(options.out)


def read(options: argparse.Namespace) -> tuple[list[Question], str]:
    """The questions of all files, and the layout of the first. Raises UsageError."""
    from featx.data.document import load_document
    from featx.data.read import FORMATS, parse_questions, read_questions, recognise
    from featx.data.tsv import SUFFIXES

    found: list[Question] = []
    layouts = []
    for path in options.questions:
        if path.endswith(SUFFIXES):  # a table of multilingual VQA; its answers are not asked for
            layouts.append("tsv")
            found += read_questions({"questions": path, "image_name": options.image_name})
            continue
        file = load_document(path)
        layout = options.format or recognise(file)
        if layout not in FORMATS:
            raise UsageError(f"there is no format {layout!r}", f"known are {', '.join(FORMATS)}")
        layouts.append(layout)
        found += parse_questions(layout, file, None, options.image_name)
    if len({q.id for q in found}) < len(found):
        raise UsageError("two of the files ask a question with the same id", "answer them one by one")
    return found, layouts[0]


def form_of(layout: str, questions: list[Question], predictor: Predictor) -> str:
    """The form of the predictions. LXMERT's lists hold VQA or GQA: then the model says which, or ids, text in GQA."""
    from featx.tasks.about import task_of

    if layout in ("gqa", "vizwiz"):
        return layout
    if layout != "lxmert":
        return "vqa"
    task = task_of(predictor.model.about)
    return (task and task.form) or ("gqa" if any(isinstance(q.id, str) for q in questions) else "vqa")


def check_pictures(questions: list[Question], predictor: Predictor) -> None:
    """Raise UsageError, with counts and some keys, when pictures of the questions are not in the store."""
    assert predictor.store is not None
    from featx.train.check import missing_keys

    pictures = dict.fromkeys(q.picture for q in questions)
    missing = list(missing_keys(pictures, predictor.store))
    if missing:
        some = ", ".join(missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
        have = next(iter(predictor.store.keys()), "none")
        raise UsageError(
            f"the store lacks {len(missing)} of {len(pictures)} pictures: {some}; its keys look like {have}",
            "extract them, or say with --image-name how its keys are made",
        )


def told(
    questions: list[Question], predictor: Predictor, options: argparse.Namespace, form: str
) -> Iterator[tuple[Question, Any, dict[str, Any]]]:
    """Each question, what is predicted of it, and all that ``--scores`` wants to know."""
    if form == "answerability":
        for question, chance in predictor.answerability(questions, options.control):
            yield question, chance, {"answerable": chance}
    else:
        for question, answers in predictor.split(questions, options.top_k, options.control):
            yield question, answers[0]["answer"], {"answers": answers}


def answer(
    questions: list[Question], predictor: Predictor, options: argparse.Namespace, form: str
) -> dict[int | str, Any]:
    """Id -> best answer, or the chance that there is one; all that is known goes to ``--scores``."""
    best: dict[int | str, Any] = {}
    with ExitStack() as stack:
        hidden = options.quiet or options.json or None  # None: shown on a terminal only
        bar = stack.enter_context(tqdm(total=len(questions), unit=" questions", file=sys.stderr, disable=hidden))
        scores = stack.enter_context(delivery(options.scores)) if options.scores else None
        for question, value, more in told(questions, predictor, options, form):
            best[question.id] = value
            if scores:
                line = {"question_id": question.id, "picture": question.picture, **more}
                scores.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            bar.update()
    return best
