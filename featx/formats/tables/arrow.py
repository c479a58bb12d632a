"""Arrow IPC streams as Hugging Face ``datasets`` keeps them: ``Dataset.from_file`` maps them without a copy.

The columns are those of ``columns``; a batch holds 1 MB, or one picture that is larger. Files with an index behind the
stream (Feather version 2) are read as well. A batch that is damaged is told with its bytes and its rows, and reading
goes on behind it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from featx.errors import FeatxError, MissingDependency, UsageError
from featx.formats.base import Item
from featx.formats.description import LOSSES, Description
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.tables.columns import batches, faults, pyarrow, schema_of
from featx.formats.tables.messages import FILE_MAGIC, MARK, SCHEMA, Message, messages
from featx.formats.tables.table import ItemOf, Piece, Source, Table


class Arrow(Table):
    """Arrow."""

    name = "arrow"
    title = "Arrow stream of Hugging Face datasets"
    source = "huggingface/datasets, arrow_writer.py; the Arrow Columnar Format, IPC"
    losses: ClassVar[tuple[str, ...]] = (
        *LOSSES,
        "of a damaged file, all pictures of a batch of 1 MB in which the damage is",
    )
    suffix = ending = ".arrow"
    kind = "Arrow stream or file"

    def begins(self, path: Path) -> bool:
        with path.open("rb") as file:
            front = file.read(8)
        return front == FILE_MAGIC or (len(front) == 8 and front[:4] == MARK and front[4:] != bytes(4))

    def opened(self, path: Path) -> Source:
        data = _mapped(path)
        return Source(path, _schema(data, path), data)

    def likely(self, error: FeatxError) -> bool:
        return isinstance(error, MissingDependency) and self.name == Arrow.name

    def pieces(self, source: Source) -> Iterator[Piece]:
        """Its messages; one that is damaged is one item when the number of its rows is not known."""
        for message in messages(source.data):
            if count := 1 if message.problem else message.rows:
                yield Piece(f"byte {message.begin}", count, message)

    def items(self, source: Source, piece: Piece, columns: list[str], number: int, item: ItemOf) -> Iterator[Item]:
        """The rows of a message; of one that is damaged, what is wrong with all of them."""
        message, problem = piece.part, piece.part.problem
        if not problem:
            try:
                batch = _batch_of(source, message).select(columns)
            except faults() as error:
                said = " ".join(str(error).split())
                problem = f"bytes {message.begin} to {message.end}, {message.rows} rows, cannot be read: {said:.200}"
        if problem:
            yield Item(number, piece.place, "", None, problem)
            return
        for row in range(batch.num_rows):
            yield item(batch, row, number + row, f"{piece.place}, row {number + row}")

    def write(self, records: Records, path: Path, options: Options) -> int:
        pa, number = pyarrow(), 0
        schema = schema_of(Description.of(records))
        with published_file(path) as file, pa.ipc.new_stream(file, schema) as out:
            for batch in batches(records.padded(), schema):
                out.write_batch(batch)
                number += batch.num_rows
        return number


def _mapped(path: Path) -> Any:
    """The bytes of a file, which the system drops from memory when it needs it."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _schema(data: Any, path: Path) -> Any:
    """The schema at the front of a stream. Raises UsageError."""
    pa = pyarrow()
    try:
        message = next(messages(data), None)
        if message is None or message.kind != SCHEMA:
            raise ValueError(message.problem if message else "it is empty")
        schema = pa.ipc.read_schema(_buffer(data, message))
        if coded := next((field.name for field in schema if pa.types.is_dictionary(field.type)), None):
            raise ValueError(f"the column {coded!r} is dictionary-encoded, expected plain text or numbers")
        list(schema.names)  # those that are no UTF-8 are an error, which is told here
    except faults() as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"{path} has no schema that can be read: {said:.200}",
            "without it nothing in the file can be told apart: get the file again, or write it in another way",
        ) from None
    return schema


def _batch_of(source: Source, message: Message) -> Any:
    """A record batch whose every offset was checked: what pyarrow reads of it stays within its bytes."""
    pa = pyarrow()
    batch = pa.ipc.read_record_batch(pa.ipc.read_message(_buffer(source.data, message)), source.schema)
    batch.validate(full=True)
    if batch.num_rows != message.rows:
        raise ValueError(f"it has {batch.num_rows} rows")
    return batch


def _buffer(data: Any, message: Message) -> Any:
    return pyarrow().py_buffer(memoryview(data)[message.begin : message.end])
