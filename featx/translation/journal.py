"""Translations of one direction, kept as they are made: a line for each batch, so that a kill costs one batch at most.

The first line says by whom they were made; the others are lists of pairs, ``[["Is it red?", "Est-ce rouge ?"], ...]``.
Both are JSON. A last line without its end is what a kill left of a batch: it is cut off, and the batch made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store import disk
from featx.store.lock import Lock

Pair = tuple[str, str]


class Journal:
    """The translations in a file, open for more; one process at a time.

    by: what decides how a text is translated (direction, model, beams, ...): a file that was made otherwise is refused.
    Raises UsageError for that and for a damaged file, StoreError where another process writes it.
    """

    def __init__(self, path: Path, by: Mapping[str, Any]) -> None:
        self.path, self._by = path, dict(by)
        disk.make_folders(path.parent)
        self._lock = Lock(path.with_suffix(".lock"), str(path))
        try:
            self.known: dict[str, str] = dict(self._begin())
        except BaseException:
            self._lock.release()
            raise

    def keep(self, pairs: Sequence[Pair]) -> None:
        """Add a batch; durable on return."""
        disk.append(self.path, _line(pairs))
        self.known.update(pairs)

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self) -> list[Pair]:
        """What an earlier run has made, after what a kill left of a line was cut off."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            disk.resize(self.path, len(whole))
            disk.sync(self.path)
        lines = whole.split(b"\n")[:-1]
        if len(lines) < 2:  # nothing was translated yet, so whoever was to do it does not matter
            disk.publish(self.path, _line(self._by))
            return []
        self._check(lines[0])
        return [pair for number, line in enumerate(lines[1:], 2) for pair in self._pairs(line, number)]

    def _check(self, line: bytes) -> None:
        found = self._parsed(line, 1)
        if not isinstance(found, dict):
            self._refuse(1, "it does not say who translated")
        differ = [name for name in {**found, **self._by} if found.get(name) != self._by.get(name)]
        if differ:
            then = ", ".join(f"{name} {found.get(name)!r}, not {self._by.get(name)!r}" for name in differ)
            raise UsageError(
                f"the translations in {self.path} were made with {then}", "give the same again, or another --out"
            )

    def _pairs(self, line: bytes, number: int) -> list[Pair]:
        found = self._parsed(line, number)
        fits = isinstance(found, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in found
        )
        if not fits:
            self._refuse(number, "it is no list of pairs of texts")
        return [(text, translation) for text, translation in found]

    def _parsed(self, line: bytes, number: int) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            self._refuse(number, str(error))

    def _refuse(self, number: int, why: str) -> Any:
        advice = "remove that line: its texts are translated again" if number > 1 else "remove the file"
        raise UsageError(f"{self.path}: line {number} is damaged: {why}", advice)


def _line(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"
