"""JSON files as data sets are distributed: plain, .gz, or inside a .zip; and sentences about what is wrong in them."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from featx.errors import UsageError


class Given(NamedTuple):
    """The answers of one question, in the annotators' order. ``ids`` is empty when all annotators differ.

    sure: ``answer_confidence`` of each (``yes``, ``maybe``, ``no``), empty when not all say it.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...] = ()
    sure: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """The content of one JSON file, and how to call it in a message."""

    name: str
    content: Any

    def rows(self, rows: Any, what: str) -> Iterator[Row]:
        """The entries of a list of objects, each knowing its place. Raises UsageError for anything else."""
        if not isinstance(rows, list):
            self.refuse(f"{what} is {_kind(rows)}", "expected a list of objects")
        for position, row in enumerate(rows):
            yield Row(self, f"{what}[{position}]", row)

    def refuse(self, found: str, expected: str) -> NoReturn:
        """Raise the UsageError that names this file."""
        raise UsageError(f"{self.name}: {found}", expected)


class Row:
    """One entry of a file; asking for a field that is absent or of another type raises a UsageError with its place."""

    __slots__ = ("fields", "file", "place")

    def __init__(self, file: Document, place: str, fields: Any) -> None:
        self.file, self.place, self.fields = file, place, fields
        if not isinstance(fields, dict):
            file.refuse(f"{place} is {_kind(fields)}", "expected an object")

    def text(self, field: str) -> str:
        """A string that is not blank, without the white space around it."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not value.strip():
            self.refuse(field, "expected text")
        return str(value).strip()

    def word(self, field: str, default: str | None = None) -> str:
        """A string, possibly empty; one object for equal strings. ``default`` stands in for an absent field."""
        value = self.fields.get(field, default)
        if not isinstance(value, str):
            self.refuse(field, "expected a string")
        return sys.intern(str(value))

    def identifier(self, field: str) -> int | str:
        """An integer or a string that is not empty."""
        value = self.fields.get(field)
        if type(value) is not int and not (isinstance(value, str) and value):
            self.refuse(field, "expected an integer or a string")
        return value if isinstance(value, int) else str(value)

    def given(self) -> Given:
        """The annotators' answers."""
        value = self.fields.get("answers")
        if not isinstance(value, Given) or not value.texts:
            self.refuse("answers", "expected a list of objects with 'answer', one for each annotator")
        return value

    def refuse(self, field: str, expected: str) -> NoReturn:
        """Raise the UsageError about one field."""
        found = _kind(self.fields[field]) if field in self.fields else "absent"
        self.file.refuse(f"{field!r} of {self.place} is {found}", expected)


def load_document(path: str | Path) -> Document:
    """Parse a .json, .json.gz, or the JSON file of a .zip; ``archive.zip:member.json`` names one of several.

    The answers of each question become a :class:`Given` as soon as they are parsed: as ten dictionaries each, those of
    VQAv2 would take gigabytes. Raises UsageError for what cannot be read or is not JSON, and for an object with
    the same name twice.
    """
    name = str(path)
    try:
        text = _read(name).decode("utf-8-sig")
        return Document(name, json.loads(text, object_pairs_hook=_object))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}", "check the name of the file") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not the JSON of a data set: {error}", "download or write it again") from None
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:  # the last: encrypted, or a rare method
        raise UsageError(f"{name} cannot be unpacked: {error}", "download it again, or unpack it yourself") from None


def _read(name: str) -> bytes:
    archive, zipped, member = name.partition(".zip:")
    if zipped or name.endswith(".zip"):
        return _member(archive + ".zip" if zipped else name, member)
    data = Path(name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def _member(archive: str, member: str) -> bytes:
    """One file of an archive: the named one, or the only .json."""
    with zipfile.ZipFile(archive) as files:
        names = [n for n in files.namelist() if n.endswith(".json") and not n.startswith("__MACOSX")]
        chosen = [n for n in names if n == member] if member else names
        if len(chosen) != 1:
            asked = f"no {member}" if member else f"{len(names)} JSON files"
            raise UsageError(
                f"{archive} holds {asked}", f"name one of them: {archive}:MEMBER, of {', '.join(names[:8])}"
            )
        return files.read(chosen[0])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object names {twice!r} twice")
    if "answers" in fields:
        fields["answers"] = _given(fields["answers"])
    return fields


def _given(answers: Any) -> Any:
    """A list of annotators' answers in few bytes; what is no such list stays as it is, to be refused with its place."""
    try:
        texts = tuple(sys.intern(a["answer"]) for a in answers)
        ids = [a.get("answer_id") for a in answers]
        sure = _sure(tuple(a.get("answer_confidence") for a in answers))
        if None in ids or len(set(ids)) == len(ids):
            return Given(texts, sure=sure)
        marks = [(a["answer_id"], a.get("answer_confidence")) for a in answers]
        numbers = {mark: n for n, mark in enumerate(dict.fromkeys(marks))}
        return Given(texts, tuple(numbers[mark] for mark in marks), sure)
    except (TypeError, KeyError, AttributeError):
        return answers


@lru_cache(maxsize=1 << 17)  # a data set repeats few of them: equal ones are one object
def _sure(said: tuple[Any, ...]) -> tuple[str, ...]:
    return said if all(isinstance(word, str) for word in said) else ()


def _kind(value: Any) -> str:
    """A JSON value in a few words."""
    if isinstance(value, Given):
        return "a list of answers"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
