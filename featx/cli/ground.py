"""``featx ground STORE KEY | PHOTO, TEXT``: which cells of the picture the text is about, and a picture of that."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from featx.cli.output import check_png, deliver, print_json, table
from featx.cli.pictures import find_picture
from featx.cli.subject import Subject, add_model, look, open_pipeline, read_subject, tell_cut, tell_notes
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.draw.letters import Pixels
    from featx.grounder import Grounder, Grounding

_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("words", nargs="+", metavar="STORE KEY | PHOTO, TEXT",
                        help="a store and a key, or a photo (path or URL); then a text")  # fmt: skip
    parser.add_argument("--draw", metavar="PNG", help="write the picture, dark where the text is not about it")
    parser.add_argument("--images", help="with --draw and a key: the pictures, as given to `featx extract`")
    parser.add_argument("--key-rule", help="with --images, if the store does not say how its keys were made")
    add_model(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Find the cells, show them, and only then draw: a picture that fails costs no result."""
    from featx.grounder import Grounder

    subject = read_subject(options.words, "ground", "text")
    if len(subject.words) > 1:
        raise UsageError(f"{len(subject.words)} texts were given", "find one text at a time; quote it")
    if options.draw:
        check_png(options.draw)
        if subject.store and not options.images:
            raise UsageError("--draw needs the picture, which is not in the store", "say where with --images")
    grounder: Grounder = open_pipeline(Grounder, options, subject.store)
    found = grounder.ground(look(grounder.sight, subject.picture), subject.words[0])
    tell_cut(grounder.model, subject.words)
    tell_notes(grounder.sight)
    if options.json:
        print_json({"picture": subject.picture, "text": subject.words[0], "cells": _cells(found)})
    else:
        print(_text(subject, found))
    if options.draw:
        deliver(options.draw, _drawn(subject, found, grounder, options))


def _cells(found: Grounding) -> list[dict[str, Any]]:
    return [
        {"row": int(row), "box": box.tolist(), "score": score.tolist()}
        for row, box, score in zip(found.rows, found.boxes, found.score, strict=True)
    ]


def _text(subject: Subject, found: Grounding) -> str:
    """How many cells the text is likelier about than not, and the surest of all with their boxes."""
    order = sorted(range(len(found.rows)), key=lambda i: -found.score[i, 1])[:_SHOWN]
    many = int((found.score[:, 1] > found.score[:, 0]).sum())
    rows = [(f"{found.score[i, 1]:.2f}", *(f"{v:.0f}" for v in found.boxes[i])) for i in order]
    told = f"{subject.picture}: {subject.words[0]}: {many} of {len(found.rows)} cells"
    return "\n".join([told, *(f"  {line}" for line in table([("score", "x0", "y0", "x1", "y1"), *rows]).splitlines())])


def _drawn(subject: Subject, found: Grounding, grounder: Grounder, options: argparse.Namespace) -> bytes:
    from featx.draw import encode_png
    from featx.draw.ground import draw_ground

    about = [subject.picture, f"{len(found.rows)} cells", "light: what the text is about"]
    pixels = _pixels(subject, grounder, options)
    return encode_png(draw_ground(pixels, found.boxes, found.share, subject.words[0], footer=about))


def _pixels(subject: Subject, grounder: Grounder, options: argparse.Namespace) -> Pixels:
    from featx.live import pixels_of

    store = grounder.sight.store
    if subject.store and store is not None:
        return find_picture(subject.picture, store.manifest, options.images, key_rule=options.key_rule)
    return pixels_of(subject.picture)
