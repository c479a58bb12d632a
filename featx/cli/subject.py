"""What a command is about, ``STORE KEY`` or ``PHOTO``, and the flags of the model that looks at it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.cli.output import add_json
from featx.errors import PictureRefused, UsageError
from featx.store.remote.address import names_store

if TYPE_CHECKING:
    from featx.consumer import Consumer
    from featx.record import Record
    from featx.sight import Sight


@dataclass(frozen=True)
class Subject:
    """A key of a store, or a photo, and the words behind it: questions, texts."""

    store: str | None
    picture: str
    words: Sequence[str]


def read_subject(words: Sequence[str], command: str, what: str = "") -> Subject:
    """Store, key and words, or photo and words. what: what the words are, a question or a text, of which there must be
    one; nothing may follow where it is empty. Raises UsageError.
    """
    store = names_store(words[0]) or (Path(words[0]) / "manifest.json").is_file()
    least = (2 if store else 1) + bool(what)
    form = f"featx {command} {'STORE KEY' if store else 'PHOTO'}" + (f' "{what}"' if what else "")
    if Path(words[0]).is_dir() and not store:
        raise UsageError(f"{words[0]} is a folder, but no store", "name a store and a key, or a photo")
    if len(words) < least:
        told = f"no {what} was {'asked' if what == 'question' else 'given'} about {words[-1]}"
        raise UsageError(told if what else f"no key of the store {words[0]} was given", form)
    if not what and len(words) > least:
        raise UsageError(f"{words[least]} is one word too many", form)
    if not store and "://" not in words[0] and not Path(words[0]).expanduser().is_file():
        raise UsageError(f"there is no store and no photo {words[0]}", "check the path")
    if not all(word.strip() for word in words):
        raise UsageError(f"a {what or 'key'} is empty", form)
    picture = 1 if store else 0
    return Subject(words[0] if store else None, words[picture], words[picture + 1 :])


def add_model(parser: argparse.ArgumentParser) -> None:
    """Flags of the model of a command, of its sight, and ``--json``."""
    parser.add_argument("--model", required=True, metavar="DIR", help="folder, weights file or hub id")
    parser.add_argument("--tokenizer", help="the model's vocabulary, if it does not carry one")
    parser.add_argument("--weights", help="weights of the extractor, for photos, if not those the model names")
    parser.add_argument("--device", default="cpu", help="of the model: cpu (default), cuda, ...")
    parser.add_argument("--allow-mismatch", action="store_true", help="accept features of another extractor")
    add_json(parser)


def open_pipeline(kind: Callable[..., Any], options: argparse.Namespace, store: str | None, **more: Any) -> Any:
    """``kind(model, store, extractor, ...)`` by the flags of :func:`add_model`, such as a Matcher."""
    changes: Mapping[str, Any] | None = {"weights": options.weights} if options.weights else None
    return kind(
        options.model, store, changes, device=options.device, allow_mismatch=options.allow_mismatch,
        tokenizer=options.tokenizer, **more,
    )  # fmt: skip


def look(sight: Sight, picture: str) -> Record:
    """The record of a command's only picture: its refusal is a mistake of whoever named it. Raises UsageError."""
    try:
        return sight.record(picture)
    except PictureRefused as refusal:
        raise UsageError(refusal.message, refusal.hint) from None


def tell_cut(model: Consumer, texts: Sequence[str]) -> None:
    """Each text that is longer than a model reads, on stderr."""
    from featx.cli.panel import pieces

    for text in texts:
        if model.is_cut(text):
            print(f"featx: the text is longer than {pieces(model)}: its end is cut: {text}", file=sys.stderr)


def tell_notes(sight: Sight) -> None:
    """What does not fit the model and was allowed, on stderr."""
    for note in sight.notes:
        print(f"featx: allowed: {note}", file=sys.stderr)
