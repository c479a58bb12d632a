"""``deaths.jsonl``: the processes that died in a part, with the pictures each of them had in hand.

The file lies in the folder of an open part, a line for each death and for each picture that was found guilty of some.
A picture that was in hand at a death is a *suspect* until it is done. One that was in hand at two, and at one of them
alone, is *poison*: it is refused, and its count begins anew, so that it can be tried again. Where picture after picture
would be poison, as on a machine that is not in order, no more of them are found guilty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from featx.store import disk
from featx.store.ledger import append_lines, mend, read_lines

FILE = "deaths.jsonl"
FATAL = 2  # deaths
IN_A_ROW = 3  # pictures found guilty with nothing done in between


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
    """What was decided of a picture that processes died of; its count begins anew. missing: how many pictures the part
    still lacked beside it when it was found guilty, None when it was not."""

    picture: str
    missing: int | None


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

    def fatal(self, key: str) -> list[Death]:
        """The deaths that make a picture poison; [] when it is not."""
        found: list[Death] = []
        for row in self._rows:
            if isinstance(row, Death):
                found += [row] if key in row.pictures else []
            elif row.picture == key:
                found = []
        alone = any(len(death.pictures) == 1 for death in found)
        return found if alone and len(found) >= FATAL else []

    def would_be_all(self, missing: int) -> bool:
        """Whether the last pictures found guilty followed upon each other, with ``missing`` pictures missing now.

        Then it is hardly the pictures, and nobody should be found guilty before something else was done.
        """
        guilty = [row.missing for row in self._rows if isinstance(row, Verdict) and row.missing is not None]
        return guilty[-IN_A_ROW:] == [missing + more for more in reversed(range(IN_A_ROW))]

    def convict(self, key: str, missing: int) -> None:
        """Note that a picture was found guilty, before its refusal is: if that is lost, it is tried again."""
        self._append(Verdict(key, missing))

    def acquit(self, key: str) -> None:
        """Note that what happened is not put down to a picture."""
        self._append(Verdict(key, None))

    def remove(self) -> None:
        """The part has no missing picture any more."""
        if self._rows:
            disk.remove(self.path)

    def _append(self, row: Death | Verdict) -> None:
        mend(self.path)
        append_lines(self.path, [row._asdict()])
        self._rows.append(row)
