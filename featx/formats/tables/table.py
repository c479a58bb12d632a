"""What Arrow and Parquet have in common: files are read piece by piece, and rows of columns become pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from featx.errors import FeatxError, UsageError
from featx.formats.base import Item, Survey, item_of
from featx.formats.description import NAME, NAMES, Described, Description, undescribed
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.regions import CONFS, HEIGHTS, IDS, KEYS, PROBS, WIDTHS, first, whole
from featx.formats.shards import members, shard_facts
from featx.formats.tables.columns import PLAIN, faults, metadata_of, shaped, value
from featx.record import Record

_KEYS = ("key", "__key__", *KEYS, "id")
_BOXES = ("boxes", "bbox")
_KNOWN = {
    *_KEYS, *_BOXES, *HEIGHTS, *WIDTHS, *PROBS, *NAMES, "features", "count",
    *(name for names in (*IDS.values(), *CONFS.values()) for name in names),
}  # fmt: skip
ItemOf = Callable[[Any, int, int, str], Item]  # of a record batch, a row in it, the number and the place of the item


class Source(NamedTuple):
    """A file, opened: its Arrow schema, and what reads it. Or what is wrong with it: then it has neither."""

    path: Path
    schema: Any = None
    data: Any = None
    problem: str = ""


class Piece(NamedTuple):
    """What is read of a file at once. place: in words. items: how many it makes or stands for, at least 1."""

    place: str
    items: int
    part: Any


class Table(Described):
    """A format of columns. Tables of others are read by the names of their columns; ``needs`` says which there are.

    kind: what one of its files is called. ending: of the files that are read of a folder.
    """

    needs: ClassVar[str] = "a key, features, boxes, height and width are needed: name the columns so"
    kind: ClassVar[str]
    ending: ClassVar[str]

    @abstractmethod
    def begins(self, path: Path) -> bool:
        """Whether a file begins as those of this kind do."""

    @abstractmethod
    def opened(self, path: Path) -> Source:
        """A file. Raises UsageError for one of which nothing can be read, MissingDependency."""

    @abstractmethod
    def likely(self, error: FeatxError) -> bool:
        """Whether a file that begins so is taken for one of this format though opening it raised ``error``."""

    @abstractmethod
    def pieces(self, source: Source) -> Iterator[Piece]:
        """The pieces of a file in their order."""

    @abstractmethod
    def items(self, source: Source, piece: Piece, columns: list[str], number: int, item: ItemOf) -> Iterator[Item]:
        """The items of a piece, ``number`` the first of them: what ``item`` makes of the ``columns``, and problems."""

    def detect(self, path: Path) -> bool:
        """By the first bytes and the columns of the first file."""
        try:
            place = next(iter(members(path, self.ending)), path)
            return not place.is_dir() and self.begins(place) and self.fits(self.opened(place).schema.names)
        except FeatxError as error:
            return self.likely(error)
        except OSError:
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        sources = self.sources(path)
        total = sum(1 if source.problem else sum(piece.items for piece in self.pieces(source)) for source in sources)
        return Survey(total, self.facts(path, shard_facts(path, self.ending)))

    def describe(self, path: Path) -> Description | None:
        found = next((source for source in self.sources(path) if not source.problem), None)
        return self.described_by(found.schema, path) if found else None

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, told, number = Sizes.of(options), self.describe(path), 0
        item = partial(self._item, told=told, options=options, sizes=sizes)
        for source in self.sources(path):
            if source.problem:
                if number >= start:
                    yield Item(number, f"file {source.path.name}", "", None, source.problem)
                number += 1
                continue
            prefix, columns = f"{source.path.name}, " if path.is_dir() else "", self.columns(source.schema.names, told)
            for piece in self.pieces(source):
                end = number + piece.items
                if end > start:
                    placed = piece._replace(place=f"{prefix}{piece.place}")
                    found = self.items(source, placed, columns, number, item)
                    yield from (one for one in found if one.number >= start)
                number = end

    def sources(self, path: Path) -> Iterator[Source]:
        """The files of a source, opened; of several, what is wrong in the place of one that cannot be.

        Raises UsageError.
        """
        found = members(path, self.ending)
        if not any(map(self.begins, found)):
            raise UsageError(f"{path} is no {self.kind}", "`featx formats` lists what is read")
        for place in found:
            try:
                source = self.opened(place)
                self.described_by(source.schema, place)
            except UsageError as error:
                if not path.is_dir():
                    raise
                source = Source(place, problem=error.message)
            yield source

    def columns(self, names: Sequence[str], told: Description | None) -> list[str]:
        """Those of the columns ``names`` that are read; pictures, say, are not."""
        wanted = {*PLAIN, *told.schema.names} if told else _KNOWN
        return [name for name in names if name in wanted]

    def fits(self, names: Sequence[str]) -> bool:
        """Whether a table with the columns ``names`` is one of this format."""
        return "features" in names and any(name in names for name in _BOXES) and any(name in names for name in _KEYS)

    def described_by(self, schema: Any, path: Path) -> Description | None:
        """The description in an Arrow schema. Raises UsageError for columns that make no pictures."""
        if not self.fits(schema.names):
            raise UsageError(
                f"{path} has the columns {', '.join(schema.names):.300}",
                self.needs,
            )
        text = metadata_of(schema).get(NAME.encode())
        try:
            return Description.load(text) if text else None
        except ValueError as error:
            raise UsageError(
                f"{path}: {error}", "get the file again; its columns may still be read without it"
            ) from None

    def _item(
        self, batch: Any, row: int, number: int, place: str, told: Description | None, options: Options, sizes: Sizes
    ) -> Item:  # fmt: skip
        """Row ``row`` of a record batch as the picture of this ``number``."""
        values = cache(lambda: _values(batch, row))

        def record(key: str) -> Record:
            return self.record(values(), sizes.find(key), told, options)

        return item_of(number, place, lambda: self.key(values(), options), record, faults())

    def key(self, values: dict[str, Any], options: Options) -> str:
        """The key of a picture. Raises ValueError or UsageError."""
        found = first(values, _KEYS)
        if not isinstance(found, str | int):
            raise ValueError(f"its key is {found!r:.80}, expected text or a whole number")
        return key_of(str(found), options)

    def record(
        self, values: dict[str, Any], size: tuple[int, int] | None, told: Description | None, options: Options
    ) -> Record:  # fmt: skip
        """The record of a row. Raises ValueError or FeatxError."""
        count = whole(values["count"], "count") if values.get("count") is not None else None
        if told is None:
            return undescribed(values, size, count, options.background)
        size = size or (whole(values.get("height"), "height"), whole(values.get("width"), "width"))
        arrays = {name: values[name] for name in told.schema.names if values.get(name) is not None}
        fields = {field.name: field for field in told.schema.fields}
        return told.record({name: shaped(array, fields[name]) for name, array in arrays.items()}, size, count)


def _values(batch: Any, row: int) -> dict[str, Any]:
    """The values of a row by column. Raises ValueError, which names the column."""
    values = {}
    for name in batch.schema.names:
        try:
            values[name] = value(batch.column(name), row)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return values
