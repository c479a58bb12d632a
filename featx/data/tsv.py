"""Tab-separated files with a header, as pandas writes the multilingual data sets: plain or .gz.

A field with a tab, a quotation mark or a line break in it stands in quotation marks, and those within it are doubled.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from featx.data.names import PictureNames
from featx.errors import UsageError

SUFFIXES = (".tsv", ".tsv.gz")


class Line:
    """One row of a file; asking for a field that is absent or blank raises a UsageError with its line."""

    __slots__ = ("fields", "name", "number")

    def __init__(self, name: str, number: int, fields: dict[str, str]) -> None:
        self.name, self.number, self.fields = name, number, fields

    def text(self, column: str) -> str:
        """What stands in a column, without the white space around it. Raises UsageError when that is nothing."""
        found = self.fields[column].strip()
        if not found:
            self.refuse(f"{column!r} is empty", "expected text")
        return found

    def picture(self, column: str, names: PictureNames | None = None) -> str:
        """The key of the picture of a file: its name without folder and suffix, or what a template makes of that."""
        path = PurePosixPath(self.text(column))
        if not path.stem or path.stem.startswith("."):
            self.refuse(f"{column!r} is {str(path)!r}", "expected the name of a picture's file")
        return names.key(path.stem) if names else path.stem

    def refuse(self, found: str, expected: str) -> NoReturn:
        """Raise the UsageError about this line."""
        raise UsageError(f"{self.name}: line {self.number}: {found}", expected)


def read_tsv(path: str | Path, columns: Sequence[str]) -> Iterator[Line]:
    """The rows of a file whose header has at least ``columns``. Raises UsageError for another file or a torn row."""
    name = str(path)
    try:
        with _open(name) as file:
            rows = csv.reader(file, delimiter="\t", strict=True)
            header = next(rows, [])
            absent = [column for column in columns if column not in header]
            if absent or len(set(header)) != len(header):
                raise UsageError(
                    f"{name}: its first line is {_shown(header)}", f"expected the columns {', '.join(columns)}, once"
                )
            for row in rows:
                yield _line(name, rows.line_num, header, row)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}", "check the name of the file") from None
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} is no table in UTF-8, separated by tabs: {error}", "write it again") from None


def _open(name: str) -> IO[str]:
    csv.field_size_limit(1 << 24)
    if name.endswith(".gz"):
        return gzip.open(name, "rt", encoding="utf-8-sig", newline="")
    return Path(name).open(encoding="utf-8-sig", newline="")


def _line(name: str, number: int, header: Sequence[str], row: Sequence[str]) -> Line:
    if len(row) != len(header):
        raise UsageError(
            f"{name}: line {number} has {len(row)} fields, its header {len(header)}", "expected one for each column"
        )
    return Line(name, number, dict(zip(header, row, strict=True)))


def _shown(header: Sequence[str]) -> str:
    text = ", ".join(header) or "empty"
    return text if len(text) <= 80 else text[:77] + "..."
