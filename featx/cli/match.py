"""``featx match STORE KEY | PHOTO, TEXT ...``: which of the texts are about the picture, the likeliest first."""

from __future__ import annotations

import argparse

from featx.cli.output import print_json
from featx.cli.subject import add_model, look, open_pipeline, read_subject, tell_cut, tell_notes


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("words", nargs="+", metavar="STORE KEY | PHOTO, TEXT",
                        help="a store and a key, or a photo (path or URL); then one or more texts")  # fmt: skip
    parser.add_argument("--batch", type=int, default=32, help="texts per network call (default 32)")
    add_model(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Match, and show the probability of every text."""
    from featx.matcher import Matcher

    subject = read_subject(options.words, "match", "text")
    matcher = open_pipeline(Matcher, options, subject.store, batch=options.batch)
    record = look(matcher.sight, subject.picture)
    found = matcher(record, list(subject.words))
    tell_cut(matcher.model, subject.words)
    tell_notes(matcher.sight)
    pairs = sorted(zip(subject.words, found, strict=True), key=lambda pair: -pair[1]["score"][1])
    if options.json:
        print_json({"picture": subject.picture, "matches": [{"text": text, **one} for text, one in pairs]})
        return
    print(subject.picture)
    for text, one in pairs:
        print(f"  {one['score'][1]:.2f}  {text}")
