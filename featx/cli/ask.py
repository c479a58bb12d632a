"""``featx ask STORE KEY QUESTION`` or ``featx ask PHOTO QUESTION``: answers with scores, and what they looked at."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featx.cli.output import add_json, check_png, deliver, print_json, table
from featx.cli.panel import Panel, pieces, read_panel
from featx.cli.pictures import find_picture
from featx.cli.speaker import PRINT, Speaker, add_sentence, read_speaker
from featx.cli.subject import Subject, read_subject
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.predictor import Answer
    from featx.translate import Translator

_ENGLISH = "en"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("words", nargs="+", metavar="STORE KEY | PHOTO, QUESTION",
                        help="a store and a key, or a photo (path or URL); then one or more questions")  # fmt: skip
    parser.add_argument("--model", action="append", default=[], metavar="[NAME=]DIR",
                        help="folder, weights file or hub id; again for a second one beside it (default: the one that "
                        "comes with featx)")  # fmt: skip
    parser.add_argument("--config", help="YAML file of models, translators, extractor; see configs/lxmert_ask.yaml")
    parser.add_argument("--answers", help="the model's list of answers (label2ans), if it does not carry one")
    parser.add_argument("--tokenizer", help="the model's vocabulary, if it does not carry one")
    parser.add_argument("--weights", help="weights of the extractor, for photos, if not those the model names")
    parser.add_argument("--top-k", type=int, default=5, help="answers shown (default 5)")
    parser.add_argument(
        "--score", choices=("softmax", "sigmoid", "logit"), help="default: what the model was trained by"
    )
    parser.add_argument("--draw", metavar="PNG", help="write the picture with the regions the answer attended to")
    parser.add_argument("--images", help="with --draw and a key: the pictures, as given to `featx extract`")
    parser.add_argument("--key-rule", help="with --images, if the store does not say how its keys were made")
    parser.add_argument(
        "--language", default=_ENGLISH, help="language of question and answer: ko, fr, ... (default en)"
    )
    parser.add_argument("--translator", metavar="IN[,OUT]",
                        help="MarianMT models to English and back (folder, hub id) or a dictionary .json")  # fmt: skip
    add_sentence(parser)
    parser.add_argument("--device", default="cpu", help="of the answering model: cpu (default), cuda, ...")
    parser.add_argument("--allow-mismatch", action="store_true", help="accept features of another extractor")
    add_json(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Reply:
    """One question, as typed and in English, and each model's answers in the language of the question.

    candidates: the first model's answers in English. prompt, sentence: of a language model, where one is asked.
    """

    question: str
    english: str
    answers: dict[str, list[Answer]]
    candidates: list[Answer]
    prompt: str | None = None
    sentence: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        more = {"prompt": self.prompt, "sentence": self.sentence} if self.prompt else {}
        return {"question": self.question, "english": self.english, "answers": self.answers, **more}


def run(options: argparse.Namespace) -> None:
    """Ask every model every question, show the answers, and only then draw: a picture that fails costs no answer."""
    subject = read_subject(options.words, "ask", "question")
    if options.top_k < 1:
        raise UsageError(f"--top-k is {options.top_k}", "give a whole number of 1 or more")
    if options.draw:
        check_png(options.draw)
        if len(subject.words) > 1:
            raise UsageError("--draw shows one question", "ask one at a time")
        if subject.store and not options.images:
            raise UsageError("--draw needs the picture, which is not in the store", "say where with --images")
    speaker = read_speaker(options)
    panel = read_panel(options, subject.store)
    translator = panel.translator(options.language) if options.language != _ENGLISH else None
    replies = [ask(panel, subject.picture, q, translator, options) for q in subject.words]
    for note in panel.notes():
        print(f"featx: allowed: {note}", file=sys.stderr)
    if speaker is not None:
        replies = spoken(speaker, subject, replies, translator, options)
    if options.llm == PRINT and not options.json:
        print("\n".join(reply.prompt or "" for reply in replies), end="", flush=True)
    elif options.json:
        print_json({"picture": subject.picture, "replies": [reply.to_dict() for reply in replies]})
    else:
        print("\n\n".join(map(text, replies)), flush=True)
    if options.draw:
        draw(panel, subject, replies[0], options)


def ask(panel: Panel, picture: str, question: str, translator: Translator | None, options: argparse.Namespace) -> Reply:
    """All models' answers to one question."""
    language = options.language
    english = translator.translate([question], language, _ENGLISH)[0] if translator else question
    found: dict[str, list[Answer]] = {}
    candidates: list[Answer] = []
    for name, predictor in panel.predictors.items():
        if predictor.is_longer(english):
            print(f"featx: the question is longer than {pieces(predictor.model)}: its end is cut", file=sys.stderr)
        answers = predictor(panel.record(name, picture), english, options.top_k)
        candidates = candidates or answers
        if translator:
            words = translator.translate([a["answer"] for a in answers], _ENGLISH, language)
            answers = [{**a, "answer": word} for a, word in zip(answers, words, strict=True)]
        found[name] = answers
    return Reply(question, english, found, candidates)


def spoken(
    speaker: Speaker, subject: Subject, replies: list[Reply], translator: Translator | None, options: argparse.Namespace
) -> list[Reply]:
    """The same replies with the prompt of each, and what a language model makes of it in the language asked in."""
    caption = speaker.caption_of(subject, options)
    found = []
    for reply in replies:
        prompt, sentence = speaker.say(caption, reply.english, reply.candidates)
        if translator and sentence is not None:
            (sentence,) = translator.translate([sentence], _ENGLISH, options.language)
        found.append(replace(reply, prompt=prompt, sentence=sentence))
    return found


def text(reply: Reply) -> str:
    """The question, and the answers of each model in a column."""
    title = reply.question if reply.english == reply.question else f"{reply.question}  ({reply.english})"
    columns = []
    for name, answers in reply.answers.items():
        column = [f"{a['score']:.2f}  {a['answer'] or '(nothing)'}" for a in answers]
        columns.append([name, *column] if len(reply.answers) > 1 else column)
    longest = max(map(len, columns))
    rows = [[column[i] if i < len(column) else "" for column in columns] for i in range(longest)]
    sentence = [] if reply.sentence is None else [f"  {reply.sentence}"]
    return "\n".join([title, *sentence, *(f"  {line}" for line in table(rows).splitlines())])


def draw(panel: Panel, subject: Subject, reply: Reply, options: argparse.Namespace) -> None:
    """The picture in the light of the first model's attention, with every model's answers."""
    from featx.draw import encode_png
    from featx.draw.answer import Said, draw_answer
    from featx.live import pixels_of

    name, predictor = next(iter(panel.predictors.items()))
    record = panel.record(name, subject.picture)
    if subject.store and predictor.store:
        manifest = predictor.store.manifest
        pixels = find_picture(subject.picture, manifest, options.images, key_rule=options.key_rule)
        labels = manifest.labels
    else:
        pixels, labels = pixels_of(subject.picture), predictor.live.extractor.labels
    _, weights = predictor.look(record, reply.english)
    said = [
        Said(
            [(a["answer"], _share(a["score"], panel.predictors[key].score)) for a in answers],
            key if len(reply.answers) > 1 else "",
        )
        for key, answers in reply.answers.items()
    ]
    whose = name if len(panel.predictors) > 1 else "the model"
    about = [subject.picture, f"{len(record)} regions"]
    if weights is not None:
        light = "light and %" if "object_ids" in record.extra else "light"  # cells have no names to stand beside
        about.append(f"{light}: the attention of {whose}")
    deliver(options.draw, encode_png(draw_answer(pixels, record, weights, reply.question, said, labels, footer=about)))


def _share(score: float, kind: str) -> float:
    """A score as a share of one, to be drawn; logits become their sigmoid."""
    return 1 / (1 + math.exp(-score)) if kind == "logit" else score
