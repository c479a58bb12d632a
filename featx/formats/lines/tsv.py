"""Formats of one line per picture, whose columns are parted by tabs: what all of them have in common.

A row is told by its number and by the byte at which it begins. An index of line starts beside a file is neither needed
nor believed: rows end where their lines do.
"""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featx.formats.base import Format, Item, Survey, item_of
from featx.formats.draft import drafted_lines
from featx.formats.identity import file_facts
from featx.formats.options import Options
from featx.formats.records import Records
from featx.record import Record
from featx.schema import Array

LONGEST_ROW = 256 << 20  # bytes; what has no line end until then is not such a file


class TsvFormat(Format):
    """A format of lines. One that derives from it says what the columns of a line are, both ways."""

    resumes = True

    @abstractmethod
    def key(self, columns: list[bytes], options: Options) -> str:
        """The key of a row, by ``naming``. Raises ValueError or UsageError for what is no such row."""

    @abstractmethod
    def record(self, columns: list[bytes], key: str, options: Options) -> Record:
        """The record of a row. Raises ValueError or UsageError, which say what is wrong with it."""

    @abstractmethod
    def line(self, key: str, record: Record, records: Records) -> bytes:
        """The row of a record, with its end. Raises UsageError for what the format cannot hold."""

    def need(self, path: Path, options: Options) -> None:
        """Raise UsageError when an option is missing that every row needs."""

    def check(self, records: Records) -> None:
        """Raise UsageError, before anything is written, for records that the format cannot hold."""

    def survey(self, path: Path, options: Options) -> Survey:
        return Survey(None, file_facts(path))

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        self.need(path, options)
        for number, offset, line in rows(path, start):
            yield self.item(number, f"byte {offset}", line, options)

    def write(self, records: Records, path: Path, options: Options) -> int:
        self.check(records)
        with drafted_lines(records, self.name, path) as (file, waiting):
            self.write_lines(waiting, file)
            self.finish(records, file, path)
        return len(records)

    def write_lines(self, records: Records, file: BinaryIO) -> None:
        """Write a line for each record."""
        for key, record in records:
            file.write(self.line(key, record, records))

    def finish(self, records: Records, file: BinaryIO, path: Path) -> None:
        """What is to be done when all lines are in the file, before it gets its name."""

    def item(self, number: int, place: str, line: bytes, options: Options) -> Item:
        """What a line holds, or what is wrong with it."""
        columns = line.rstrip(b"\r\n").split(b"\t")

        def key() -> str:
            if not line.endswith(b"\n"):
                raise ValueError(f"it has {len(columns)} columns and no line end: it is cut")
            return self.key(columns, options)

        return item_of(number, place, key, lambda key: self.record(columns, key, options))


def rows(path: Path, start: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Number, first byte and content of the lines that are not empty, from number ``start`` on, one in memory."""
    number = offset = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_ROW):
            if line.strip():
                if number >= start:
                    yield number, offset, line
                number += 1
            offset += len(line)


def first_columns(path: Path) -> list[bytes]:
    """The columns of the first line; none for what is no file or cannot be read."""
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST_ROW)
    except OSError:
        return []
    return line.rstrip(b"\r\n").split(b"\t")


def array(column: bytes, dtype: str, *shape: int) -> Array:
    """An array from base64; one of its extents may be -1. Raises ValueError for numbers that do not make it."""
    found = np.frombuffer(base64.b64decode(column, validate=True), dtype)
    if shape[0] < 0 or (found.size and not shape[0]):
        raise ValueError(f"{found.size} numbers for {shape[0]} boxes")
    return found.reshape(shape) if shape[0] else np.empty([max(extent, 0) for extent in shape], dtype)


def coded(values: Array, dtype: str = "<f4") -> bytes:
    """An array as base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes())


def parsed(column: bytes) -> Any:
    """What a column of JSON says. Raises ValueError."""
    try:
        return json.loads(column)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def is_coded(column: bytes, size: int) -> bool:
    """Whether a column is as long as base64 of ``size`` bytes, and begins like it."""
    start = column[:64].rstrip(b"=").translate(None, b"+/")
    return len(column) == -(-size // 3) * 4 and (start.isalnum() or not start)


def quoted(value: str) -> bytes:
    """As Python's csv module quotes: only what needs it, and a key has no tabs or line ends."""
    return ('"' + value.replace('"', '""') + '"' if '"' in value else value).encode()


def unquoted(value: bytes) -> str:
    """What Python's csv module wrote. Raises ValueError for what is no UTF-8."""
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1].replace(b'""', b'"')
    return value.decode()
