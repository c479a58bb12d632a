"""What Arrow and Parquet have in common: rows of columns become pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from featx.errors import UsageError
from featx.formats.base import Item, item_of
from featx.formats.description import NAME, NAMES, Described, Description, undescribed
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.regions import CONFS, HEIGHTS, IDS, KEYS, PROBS, WIDTHS, first, whole
from featx.formats.tables.columns import PLAIN, faults, metadata_of, shaped, value
from featx.record import Record

_KEYS = ("key", "__key__", *KEYS, "id")
_BOXES = ("boxes", "bbox")
_KNOWN = {
    *_KEYS, *_BOXES, *HEIGHTS, *WIDTHS, *PROBS, *NAMES, "features", "count",
    *(name for names in (*IDS.values(), *CONFS.values()) for name in names),
}  # fmt: skip


class Table(Described):
    """A format of columns. Tables of others are read by the names of their columns; ``needs`` says which there are."""

    needs: ClassVar[str] = "a key, features, boxes, height and width are needed: name the columns so"

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

    def item(
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
