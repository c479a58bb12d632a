"""JSON documents that grow entry by entry, so that a million questions fit, and appear when they are whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from featx.store.disk import settle, temporary


class GrowingJson:
    """A document of which one list, or one mapping, is written entry by entry.

    before: the text up to the entries; after: gives the text behind them, when everything is known. The file has
    its name only after a body without an error.
    """

    def __init__(self, path: Path, before: str, after: Callable[[], str]) -> None:
        self._path, self._after = path, after
        self._draft = temporary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._draft.open("w", encoding="utf-8")
        self._file.write(before)
        self._between = "\n"

    def add(self, entry: Any, key: str | None = None) -> None:
        """One more entry; with a key for a mapping."""
        self._file.write(self._between + ("" if key is None else f"{dumps(key)}: ") + dumps(entry))
        self._between = ",\n"

    def __enter__(self) -> GrowingJson:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file as file:
            file.write("\n" + self._after() + "\n")
        if kind is None:
            settle(self._path)
        else:
            self._draft.unlink(missing_ok=True)


def whole_list(path: Path) -> GrowingJson:
    """``[entry, ...]``"""
    return GrowingJson(path, "[", lambda: "]")


def whole_mapping(path: Path) -> GrowingJson:
    """``{key: entry, ...}``"""
    return GrowingJson(path, "{", lambda: "}")


def list_within(
    path: Path, name: str, head: Mapping[str, Any], tail: Callable[[], Mapping[str, Any]] = dict
) -> GrowingJson:
    """``{**head, name: [entry, ...], **tail()}``; head must not be empty."""

    def after() -> str:
        return "]" + "".join(f",\n{dumps(key)}: {dumps(value)}" for key, value in tail().items()) + "}"

    return GrowingJson(path, f"{dumps(head)[:-1]},\n{dumps(name)}: [", after)


def dumps(value: Any) -> str:
    """JSON on one line, accents as they are, keys in their order."""
    return json.dumps(value, ensure_ascii=False)
