"""What a request asks, checked field by field: JSON about a key of a store, or a form with a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featx.codec import store_key
from featx.errors import UsageError
from featx.serve.problems import Problem

LONGEST_QUESTION = 2000  # characters; models read some tens of words
LONGEST_NAME = 10_000  # characters of a key or a name
MOST_ANSWERS = 1000
TOP_K = 5
FIELDS = ("store", "key", "question", "language", "model", "top_k", "explain")


@dataclass(frozen=True)
class Asked:
    """A question, checked as far as that can be done without looking anything up.

    Either key (and its store), or picture: the bytes of a file. question is None where a picture is only to be looked
    at. store beside a picture: whose kind of records is to be made.
    """

    store: str | None = None
    key: str | None = None
    question: str | None = None
    language: str | None = None
    model: str | None = None
    top_k: int = TOP_K
    explain: bool = False
    picture: bytes | None = None


def of_json(body: bytes) -> Asked:
    """A question about a key. Raises Problem (400)."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON ({str(error)[:100]})") from None
    if not isinstance(given, dict):
        raise _bad(f"the body is a JSON {type(given).__name__}, expected an object")
    kinds = {"top_k": int, "explain": bool}
    for name, value in given.items():
        kind = kinds.get(name, str)
        if value is not None and type(value) is not kind:
            raise _bad(f"{name[:40]!r} is {json.dumps(value)[:40]}, expected {_WORDS[kind]}")
    return _checked({name: value for name, value in given.items() if value is not None}, None)


def of_form(fields: Mapping[str, str], picture: bytes | None) -> Asked:
    """A question about a picture (or, without one, about a key), from a form. Raises Problem (400)."""
    given: dict[str, Any] = {name: value for name, value in fields.items() if value != ""}
    readers: dict[str, Callable[[str], Any]] = {"top_k": _number, "explain": _truth}
    for name, read in readers.items():
        if name in given:
            given[name] = read(given[name])
    return _checked(given, picture)


def _checked(given: dict[str, Any], picture: bytes | None) -> Asked:
    for name in given:
        if name not in FIELDS:
            raise _bad(f"there is no field {name[:40]!r}", f"there are {', '.join(FIELDS)}, and picture in a form")
    for name, value in given.items():
        if isinstance(value, str):
            _check_text(name, value)
    question = given.pop("question", "").strip() or None
    asked = Asked(**given, question=question, picture=picture)
    if not 1 <= asked.top_k <= MOST_ANSWERS:
        raise _bad(f"top_k is {asked.top_k}", f"ask for 1 to {MOST_ANSWERS} answers")
    if picture is not None and asked.key is not None:
        raise _bad("a key and a picture are given", "ask about one of them")
    if picture is None:
        _check_key(asked)
    return asked


def _check_key(asked: Asked) -> None:
    if asked.store is None or asked.key is None:
        raise _bad("store and key are missing" if asked.key is None else "store is missing", "or send a picture")
    if asked.question is None:
        raise _bad("question is missing", "ask something")
    try:
        store_key(asked.key)
    except UsageError as error:
        raise _bad(error.message) from None


def _check_text(name: str, text: str) -> None:
    most = LONGEST_QUESTION if name == "question" else LONGEST_NAME
    if len(text) > most:
        raise _bad(f"{name} has {len(text)} characters, the limit is {most}", "shorten it")
    if not text.isprintable() and any((ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise _bad(f"{name} holds characters that are no text", "send UTF-8")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _bad(f"top_k is {text[:40]!r}, expected a number")
    return int(text)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise _bad(f"explain is {text[:40]!r}, expected true or false")
    return text == "true"


def _bad(message: str, hint: str = "") -> Problem:
    return Problem(400, "bad_request", message, hint)


_WORDS: dict[Any, str] = {str: "text", int: "a number", bool: "true or false"}
