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
from featx.formats.base import Item, Survey
from featx.formats.description import LOSSES, Description
from featx.formats.naming import Sizes
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.shards import members, shard_facts
from featx.formats.tables.columns import batches, faults, pyarrow, schema_of
from featx.formats.tables.messages import BATCH, FILE_MAGIC, MARK, SCHEMA, Message, messages
from featx.formats.tables.table import Table

SUFFIX = ".arrow"


class Arrow(Table):
    """Arrow."""

    name = "arrow"
    title = "Arrow stream of Hugging Face datasets"
    source = "huggingface/datasets, arrow_writer.py; the Arrow Columnar Format, IPC"
    losses: ClassVar[tuple[str, ...]] = (
        *LOSSES,
        "of a damaged file, all pictures of a batch of 1 MB in which the damage is",
    )
    suffix = SUFFIX

    def detect(self, path: Path) -> bool:
        """By the columns of its schema; without pyarrow by its first bytes."""
        try:
            place = next(iter(members(path, SUFFIX)), path)
            if place.is_dir() or not is_arrow(place):
                return False
            return self.fits(_schema(_mapped(place), place).names)
        except MissingDependency:
            return self.name == Arrow.name
        except (FeatxError, OSError):
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        total = sum(
            1 if isinstance(schema, FeatxError) else sum(map(_span, messages(data)))
            for _, data, schema in self._sources(path)
        )
        return Survey(total, self.facts(path, shard_facts(path, SUFFIX)))

    def describe(self, path: Path) -> Description | None:
        found = next((schema for _, _, schema in self._sources(path) if not isinstance(schema, FeatxError)), None)
        return None if found is None else self.described_by(found, path)

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, told, number = Sizes.of(options), self.describe(path), 0
        for place, data, schema in self._sources(path):
            if isinstance(schema, FeatxError):
                if number >= start:
                    yield Item(number, f"file {place.name}", "", None, schema.message)
                number += 1
                continue
            prefix = f"{place.name}, " if path.is_dir() else ""
            for message in messages(data):
                end = number + _span(message)
                if end > start:
                    at = f"{prefix}byte {message.begin}"
                    for item in self._batch(data, schema, message, number, at, told, options, sizes):
                        if item.number >= start:
                            yield item
                number = end

    def write(self, records: Records, path: Path, options: Options) -> int:
        pa, number = pyarrow(), 0
        schema = schema_of(Description.of(records))
        with published_file(path) as file, pa.ipc.new_stream(file, schema) as out:
            for batch in batches(records.padded(), schema):
                out.write_batch(batch)
                number += batch.num_rows
        return number

    def _sources(self, path: Path) -> Iterator[tuple[Path, Any, Any]]:
        """The files of a source, each with its bytes and its schema; of several, an error in the place of a schema
        that cannot be read. Raises UsageError.
        """
        found = members(path, SUFFIX)
        if not any(map(is_arrow, found)):
            raise UsageError(f"{path} is no Arrow stream or file", "`featx formats` lists what is read")
        for place in found:
            data = _mapped(place)
            try:
                schema = _schema(data, place)
                self.described_by(schema, place)
                yield place, data, schema
            except UsageError as error:
                if not path.is_dir():
                    raise
                yield place, data, error

    def _batch(
        self, data: Any, schema: Any, message: Message, number: int, place: str, told: Description | None,
        options: Options, sizes: Sizes,
    ) -> Iterator[Item]:  # fmt: skip
        """The rows of a message; of one that is damaged, what is wrong with all of them."""
        if message.problem or message.kind != BATCH:
            if message.problem:
                yield Item(number, place, "", None, message.problem)
            return
        try:
            batch = _batch_of(data, schema, message)
        except faults() as error:
            said = " ".join(str(error).split())
            problem = f"bytes {message.begin} to {message.end}, {message.rows} rows, cannot be read: {said:.200}"
            if message.rows:
                yield Item(number, place, "", None, problem)
            return
        batch = batch.select(self.columns(batch.schema.names, told))
        for row in range(batch.num_rows):
            yield self.item(batch, row, number + row, f"{place}, row {number + row}", told, options, sizes)


def is_arrow(path: Path) -> bool:
    """Whether a file begins as a stream or a file of Arrow does."""
    with path.open("rb") as file:
        front = file.read(8)
    return front == FILE_MAGIC or (len(front) == 8 and front[:4] == MARK and front[4:] != bytes(4))


def _mapped(path: Path) -> Any:
    """The bytes of a file, which the system drops from memory when it needs it."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _span(message: Message) -> int:
    """How many items a message makes or stands for: its rows; one where their number is not known."""
    return 1 if message.problem else message.rows


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


def _batch_of(data: Any, schema: Any, message: Message) -> Any:
    """A record batch whose every offset was checked: what pyarrow reads of it stays within its bytes."""
    pa = pyarrow()
    batch = pa.ipc.read_record_batch(pa.ipc.read_message(_buffer(data, message)), schema)
    batch.validate(full=True)
    if batch.num_rows != message.rows:
        raise ValueError(f"it has {batch.num_rows} rows")
    return batch


def _buffer(data: Any, message: Message) -> Any:
    return pyarrow().py_buffer(memoryview(data)[message.begin : message.end])
