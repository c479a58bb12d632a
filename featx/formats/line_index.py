"""``.lineidx``: where each line of a file begins, one decimal number of bytes a line (microsoft/Oscar, TSVFile).

The writer of microsoft/scene_graph_benchmark counts characters, so its numbers are wrong behind the first key beyond
ASCII. featx counts bytes when it writes an index, and reads none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from featx.delivery import delivery


def index_of(path: Path) -> Path:
    """The index that belongs to a file."""
    return path.with_suffix(".lineidx")


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
    with delivery(str(index_of(path))) as out:
        for start in line_starts(file):
            out.write(b"%d\n" % start)
