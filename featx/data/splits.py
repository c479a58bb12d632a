"""Splits of a data set by picture, so that no picture is on both sides."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from featx.data.document import load_document
from featx.errors import UsageError


class OfPicture(Protocol):
    """A question or a caption."""

    @property
    def picture(self) -> str: ...


T = TypeVar("T", bound=OfPicture)


def split_by_pictures(entries: Iterable[T], pictures: Container[str]) -> tuple[list[T], list[T]]:
    """(entries of other pictures, entries of ``pictures``), each in their order.

    LXMERT validates VQA on *minival*, the questions to 5,000 pictures of val2014, and trains on train and *nominival*,
    the rest of val; which pictures those are is stated by its ``minival.json`` alone (:func:`read_pictures`).
    """
    sides: tuple[list[T], list[T]] = ([], [])
    for entry in entries:
        sides[entry.picture in pictures].append(entry)
    return sides


def read_pictures(path: str | Path) -> frozenset[str]:
    """Keys of pictures: ``img_id`` of a list of LXMERT's, a JSON list of strings, or a text file, one key a line."""
    if ".json" in Path(path).name or str(path).endswith(".zip"):
        file = load_document(path)
        if not isinstance(file.content, list):
            file.refuse("it is no list", "expected a list of LXMERT's, or of keys")
        return frozenset(_key(entry, file) for entry in file.content)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of pictures {path} cannot be read: {error}", "give a UTF-8 text file") from None
    return frozenset(line.strip() for line in lines if line.strip())


def _key(entry: Any, file: Any) -> str:
    key = entry.get("img_id") if isinstance(entry, dict) else entry
    if not isinstance(key, str) or not key:
        file.refuse("an entry has no key of a picture", "expected 'img_id', or a string")
    return str(key)
