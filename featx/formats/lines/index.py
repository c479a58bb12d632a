"""``.lineidx``: where each line of a file begins, one decimal number of bytes a line (microsoft/Oscar, TSVFile).

The writer of microsoft/scene_graph_benchmark counts characters, so its numbers are wrong behind the first key beyond
ASCII. featx counts bytes when it writes an index; one that it finds is compared with the rows, and never believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from featx.formats.base import Item
from featx.formats.lines.tsv import TsvFormat, rows
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records

_LONGEST = 32  # bytes of a line that may be a number


class IndexedTsv(TsvFormat):
    """A format of lines with an index: written beside them; one that is wrong is told as an item behind the rows."""

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        self.need(path, options)
        index, count, end = LineIndex(path), 0, 0
        for number, offset, line in rows(path):
            index.meet(offset)
            count, end = number + 1, offset + len(line)
            if number >= start:
                yield self.item(number, f"byte {offset}", line, options)
        index.end(end)
        if index.problem and start <= count:
            yield Item(count, index.place, "", None, index.problem)

    def beside(self, path: Path) -> list[Path]:
        return [index_of(path)]

    def finish(self, records: Records, file: BinaryIO, path: Path) -> None:
        if file.readable():  # a pipe has no index
            write_index(file, path)


class LineIndex:
    """The index beside a file, compared with its rows as they are read.

    problem: what is wrong with it first, '' while nothing is, and always where there is none. place: where in the file.
    """

    def __init__(self, path: Path) -> None:
        self.problem, self.place, self._name = "", "", index_of(path).name
        self._entries = _entries(index_of(path)) if index_of(path).is_file() else None

    def meet(self, offset: int) -> None:
        """Compare the next entry with the byte at which the next row begins."""
        if self._entries is not None and not self.problem:
            said = next(self._entries, "nothing")
            if said != str(offset):
                self._wrong(offset, f"says {said} of the row that begins at byte {offset}")

    def end(self, offset: int) -> None:
        """Compare what is left of it with the end of the file."""
        if self._entries is not None and not self.problem and (more := sum(1 for _ in self._entries)):
            self._wrong(offset, f"lists {more} more rows behind the last one, as if the file had been cut")

    def _wrong(self, offset: int, what: str) -> None:
        self.place = f"byte {offset}"
        self.problem = f"{self._name} {what}: make a new index; rows were read by their line ends"


def index_of(path: Path) -> Path:
    """The index that belongs to a file."""
    return path.with_suffix(".lineidx")


def _entries(index: Path) -> Iterator[str]:
    """The lines of an index."""
    try:
        with index.open("rb") as file:
            while line := file.readline(_LONGEST):
                said = line.strip()
                yield said.decode() if said.isdigit() else repr(said)
    except OSError as error:
        yield f"({error.strerror})"


def line_starts(file: BinaryIO) -> Iterator[int]:
    """The byte at which each line of an open file begins."""
    file.flush()
    file.seek(0)
    place = 0
    for line in file:
        yield place
        place += len(line)


def write_index(file: BinaryIO, path: Path) -> None:
    """Write the index of an open file that is to be called ``path``."""
    with published_file(index_of(path)) as out:
        for start in line_starts(file):
            out.write(b"%d\n" % start)
