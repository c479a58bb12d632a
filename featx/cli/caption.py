"""``featx caption STORE KEY | PHOTO``: a picture in a sentence; ``featx caption STORE --all -o FILE``: all of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from featx.cli.output import print_json
from featx.cli.subject import add_model, look, open_pipeline, read_subject, tell_notes
from featx.delivery import delivery
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.captioner import Captioner

_SHOWN = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("words", nargs="+", metavar="STORE KEY | PHOTO",
                        help="a store and a key, or a photo (path or URL); with --all a store")  # fmt: skip
    parser.add_argument("--language", default="en", metavar="LANG[,LANG]", help="en, fr, de, es, ... (default en)")
    parser.add_argument("--beams", type=int, default=4, help="beams of the search; 1 is greedy (default 4)")
    parser.add_argument("--max-length", type=int, metavar="N",
                        help="tokens of a caption (default 64, or the fewer that the model has room for)")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="describe every picture of the store, or of --captions")
    parser.add_argument("-o", "--out", metavar="JSON", help="with --all: file of results to write, as COCO takes it")
    parser.add_argument("--captions", metavar="JSON",
                        help="with --all: a captions file of COCO's layout, whose pictures are described")  # fmt: skip
    parser.add_argument("--image-name", help="with --captions: template of the store's keys, if not the files' names")
    parser.add_argument("--batch", type=int, default=32, help="pictures per network call (default 32)")
    parser.add_argument("--quiet", action="store_true", help="no progress; notes and errors stay")
    add_model(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Describe one picture, or all."""
    languages = [name.strip() for name in options.language.split(",")]
    if options.all:
        describe_all(options, languages)
        return
    given = [name for name in ("out", "captions", "image_name") if getattr(options, name)]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} is for --all", "leave it out, or add --all")
    describe_one(options, languages)


def describe_one(options: argparse.Namespace, languages: Sequence[str]) -> None:
    """A sentence in each language."""
    from featx.captioner import Captioner

    subject = read_subject(options.words, "caption")
    captioner = open_pipeline(Captioner, options, subject.store, batch=options.batch)
    for language in languages:  # before a photo is looked at, which takes its time
        captioner.check(language, options.beams, options.max_length)
    record = look(captioner.sight, subject.picture)
    found = {language: captioner(record, language, options.beams, options.max_length) for language in languages}
    tell_notes(captioner.sight)
    if options.json:
        print_json({"picture": subject.picture, "captions": found})
    elif len(found) == 1:
        print(found[languages[0]])
    else:
        print("\n".join(f"{language}  {text}" for language, text in found.items()))


def describe_all(options: argparse.Namespace, languages: Sequence[str]) -> None:
    """Results in COCO's form: a list of ``{"image_id": ..., "caption": ...}``."""
    from featx.captioner import Captioner

    if len(options.words) != 1 or len(languages) != 1 or not options.out:
        raise UsageError("--all needs one store, one language and a file", "featx caption STORE --all -o FILE")
    captioner = open_pipeline(Captioner, options, options.words[0], batch=options.batch)
    captioner.check(languages[0], options.beams, options.max_length)
    pictures = listed(captioner, options)
    tell_notes(captioner.sight)
    rows = []
    with delivery(options.out) as out:  # a place that cannot be written is told before the work, not after it
        hidden = options.quiet or options.json or None  # None: shown on a terminal only
        found = captioner.split(list(pictures), languages[0], options.beams, options.max_length)
        for key, text in tqdm(found, total=len(pictures), unit=" pictures", file=sys.stderr, disable=hidden):
            rows.append({"image_id": pictures[key], "caption": text})
        out.write((json.dumps(rows, ensure_ascii=False, indent=0) + "\n").encode())
    if options.json:
        print_json({"pictures": len(rows), "language": languages[0], "out": options.out})
    else:
        print(options.out)


def listed(captioner: Captioner, options: argparse.Namespace) -> Mapping[str, int | str]:
    """Key -> id of every picture that is to be described. Raises UsageError when the store lacks some of them."""
    from featx.data.captions import read_pictures
    from featx.data.document import load_document
    from featx.data.names import numbers
    from featx.train.check import missing_keys

    store = captioner.sight.store
    assert store is not None, "a pipeline that was given a store"
    if not options.captions:
        if options.image_name:
            raise UsageError("--image-name is for --captions", "leave it out, or say which file's pictures are meant")
        return numbers(store.keys())
    pictures = read_pictures(load_document(options.captions), options.image_name)
    missing = list(missing_keys(pictures, store))
    if missing:
        some = ", ".join(missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
        have = next(iter(store.keys()), "none")
        raise UsageError(
            f"the store lacks {len(missing)} of {len(pictures)} pictures: {some}; its keys look like {have}",
            "extract them, or say with --image-name how its keys are made",
        )
    return pictures
