"""Which texts there are: the questions and captions of data sets, or the lines of a file, each its own key."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.data import Caption, Question, captions, read_captions, read_questions
from featx.data.document import load_document
from featx.data.read import parse_questions, recognise
from featx.data.tsv import SUFFIXES, read_tsv
from featx.errors import UsageError
from featx.images import PICTURE_SUFFIXES, Listing, Source
from featx.images.source import Blob
from featx.store import StoreReader

_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # what no key may hold: control characters, line breaks, halves of characters


@dataclass(frozen=True)
class Words(Blob):
    """A text in the place of a picture's file; ``file`` is where it was first found."""

    text: str = ""

    def read(self) -> bytes:
        """The text in UTF-8."""
        return self.text.encode()


def text_key(text: str) -> str:
    """The key of a text: itself in NFC, without white space around it, with spaces for tabs and line breaks."""
    plain = unicodedata.normalize("NFC", text)
    return "".join(" " if unicodedata.category(c) in _BREAKS else c for c in plain).strip()


def check_embeddings(name: str, store: StoreReader) -> None:
    """Raise UsageError, calling the store ``name``, when it holds something else than one embedding of each text."""
    stated = store.manifest.provenance.get("profile") or {}
    if store.schema.rows != 1 or stated.get("tensor", "text") != "text":
        raise UsageError(
            f"{name} holds {stated.get('tensor', 'several rows a record')}, not embeddings of texts",
            "texts is a store that the extractor clip-text made of the questions",
        )


def list_texts(spec: str | Sequence[str], *, stdin: Iterable[str] | None = None) -> Listing:
    """Every distinct text that ``spec`` names, in order of first appearance.

    A spec is a ``.txt`` file or ``-`` (``stdin``), a text in each line, or a file of questions or captions that
    ``featx.data`` reads, or a sequence of those. Blank lines are left out and counted. Raises UsageError.
    """
    first: dict[str, str] = {}
    skipped: dict[str, int] = {}
    for one in [spec] if isinstance(spec, str) else spec:
        for text, place in _texts(one, stdin):
            key = text_key(text)
            if not key:
                skipped["blank"] = skipped.get("blank", 0) + 1
            elif key in first:
                skipped["repeated"] = skipped.get("repeated", 0) + 1
            else:
                first[key] = place
    if not first:
        raise UsageError(f"no text found in {spec!r}", "name a .txt file, or a file of questions or captions")
    sources = (Source(key, place, i, Words(place, text=key)) for i, (key, place) in enumerate(first.items()))
    return Listing(sources, skipped)


def _texts(spec: str, stdin: Iterable[str] | None) -> Iterator[tuple[str, str]]:
    """Texts and where each stands."""
    if spec == "-":
        lines: Iterable[str] = sys.stdin if stdin is None else stdin
        yield from ((line, f"stdin:{i}") for i, line in enumerate(lines, 1))
    elif spec.endswith(".txt"):
        yield from ((line, f"{spec}:{i}") for i, line in enumerate(_lines(spec), 1))
    elif Path(spec).is_dir() or Path(spec).suffix.lower() in PICTURE_SUFFIXES:
        raise UsageError(
            f"{spec} is no file of texts, and this extractor reads texts", "pictures are read by --extractor clip"
        )
    else:
        yield from ((text, spec) for text in _of_data(spec))


def _of_data(path: str) -> list[str]:
    """What the questions, or the captions, of a file say."""
    if path.endswith(SUFFIXES):
        asks = "question" in next((line.fields for line in read_tsv(path, ())), {})
        entries: Sequence[Question | Caption] = (
            read_questions({"questions": path}) if asks else read_captions({"captions": path})
        )
    else:
        file = load_document(path)
        if captions.fits(file.content):
            entries = list(captions.read(file))
        else:
            entries = parse_questions(recognise(file), file, None, None)
    return [entry.text for entry in entries]


def _lines(path: str) -> list[str]:
    try:
        with Path(path).open(encoding="utf-8-sig") as file:  # cut as stdin is, at line breaks of files alone
            return list(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "give a text file in UTF-8, a text in each line") from None
