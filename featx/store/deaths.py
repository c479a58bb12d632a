"""``deaths.jsonl``: the processes that died in a part, with the pictures each of them had in hand.

The file lies in the folder of an open part, a line for each death and for each picture that was refused for some.
A picture that was in hand at a death is a *suspect* until it is done. One that was the only one in hand is set aside:
it comes last. When a process dies of it alone again it is *poison*, and refused; its count begins anew then, so that it
can be tried again. One death with nothing else in hand is not enough: processes die for other reasons, too, and
suspects are done one at a time, so whatever kills twice in a short while would take an innocent picture with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from featx.store import disk
from featx.store.ledger import append_lines, mend, read_lines

FILE = "deaths.jsonl"
FATAL = 2  # deaths with nothing else in hand


class Death(NamedTuple):
    """A process that did not end in order: the keys of the pictures it had in hand; its host and number; when it began
    and when it was last heard of (seconds since 1970); the error it ended with, "" where it was killed."""

    pictures: Sequence[str]
    host: str
    pid: int
    begun: float
    at: float
    error: str = ""

    def __str__(self) -> str:
        how = f"ended with {self.error}" if self.error else "was killed"
        count = f"{len(self.pictures)} picture{'' if len(self.pictures) == 1 else 's'}"
        return f"process {self.pid} on {self.host} {how} with {count} under way"


class Verdict(NamedTuple):
    """The key of a picture that was refused as poison."""

    refused: str


def read_deaths(folder: Path) -> list[Death]:
    """The deaths in the part in ``folder``, oldest first. Raises StoreDamaged for lines that are no JSON."""
    return [row for row in _rows(folder) if isinstance(row, Death)]


def _rows(folder: Path) -> list[Death | Verdict]:
    rows: list[Death | Verdict] = []
    for row in read_lines(folder / FILE):
        for kind in (Death, Verdict):
            if {*kind._fields} == row.keys():
                rows.append(kind(**row))
    return rows


class Deaths:
    """The history of an open part."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._rows = _rows(folder)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, death: Death) -> bool:
        """Note a death; False when it is noted already, by a process that died before it could say so elsewhere."""
        if any(isinstance(row, Death) and row[1:4] == death[1:4] for row in self._rows):
            return False
        self._append(death)
        return True

    def suspects(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys``, in their order, that were in hand at any death."""
        suspected = {key for row in self._rows if isinstance(row, Death) for key in row.pictures}
        return [key for key in keys if key in suspected]

    def alone(self, key: str) -> list[Death]:
        """The deaths at which a picture was the only one in hand, since it was last refused."""
        found: list[Death] = []
        for row in self._rows:
            if isinstance(row, Verdict):
                found = [] if row.refused == key else found
            elif list(row.pictures) == [key]:
                found.append(row)
        return found

    def convict(self, key: str) -> None:
        """Note that a picture is refused, before its refusal is: if that is lost, it is tried again."""
        self._append(Verdict(key))

    def remove(self) -> None:
        """The part has no missing picture any more."""
        if self._rows:
            disk.remove(self.path)

    def _append(self, row: Death | Verdict) -> None:
        mend(self.path)
        append_lines(self.path, [row._asdict()])
        self._rows.append(row)
