"""The ledger of a part: one JSON line per picture that was refused. Appended and synced, never edited.

A crash can tear the last line, and a power cut any of those that were written last; the pictures they were about
count as never tried. A second list of the same make, ``aliases.jsonl``, keeps the originals of keys too long to be
stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from featx.errors import StoreDamaged
from featx.store import disk


class Refusal(NamedTuple):
    """One refused picture: its key, position in the source list, where it lies, and why it was refused."""

    key: str
    ordinal: int
    source: str
    reason: str
    message: str


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in ``path`` but for torn lines, [] when there is no file. Raises StoreDamaged for other text."""
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if _is_torn(line):
            continue
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise StoreDamaged(
                f"{path}, line {number}, is not a JSON object", "delete that line; its picture will be tried again"
            ) from None
    return rows


def _is_torn(line: bytes) -> bool:
    """Whether a block that never reached the disk left its zeros, or what was there before, in a line."""
    try:
        return any(character < " " for character in line.decode())
    except UnicodeDecodeError:
        return True


def append_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append one line per row; durable on return."""
    data = "".join(json.dumps(row) + "\n" for row in rows)
    if data:
        disk.append(path, data.encode())


def mend(path: Path) -> None:
    """Cut a torn last line off, so that the next one starts at the beginning of a line; what is left is durable."""
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            disk.resize(path, whole)
        disk.sync(path)


def read_ledger(path: Path) -> list[Refusal]:
    """The refusals in a ledger, the last one for each key. Raises StoreDamaged for what is not a ledger."""
    try:
        return list({row["key"]: Refusal(**row) for row in read_lines(path)}.values())
    except (KeyError, TypeError) as error:
        raise StoreDamaged(f"{path} holds a line that is no refusal: {error}", "delete that line") from None
