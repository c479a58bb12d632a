"""What all sealed HDF5 files say of their records, beside the fields: columns sorted by key, and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx.codec import Slot, layout
from featx.schema import Schema

OFFSET = "offset"
_KEYS = {"keys": np.dtype("S")}
_NUMBERS: dict[str, np.dtype[Any]] = {
    "count": np.dtype("<u4"),
    "size": np.dtype("<u4"),
    "ordinal": np.dtype("<u8"),
    "checksum": np.dtype("<u8"),
}
# Of records that lie whole in the file, and of records that were taken apart; the frame is made of them in this order.
COLUMNS: dict[str, np.dtype[Any]] = {**_KEYS, OFFSET: np.dtype("<u8"), **_NUMBERS}
ARRAY_COLUMNS: dict[str, np.dtype[Any]] = {**_KEYS, "start": np.dtype("<i8"), **_NUMBERS}


def stays_in_place(schema: Schema) -> bool:
    """Whether records of the schema stay where they are: all as long as each other, and no name is taken or a path."""
    return schema.rows is not None and OFFSET not in schema.names and not any("/" in name for name in schema.names)


def slots_of(schema: Schema) -> tuple[Slot, ...]:
    """The arrays that hold the fields of the schema."""
    return layout(schema, schema.rows or 0)[0]


def slot_attributes(slot: Slot) -> dict[str, str]:
    """Attributes of the dataset that holds such an array."""
    return {"dtype": slot.field.dtype if slot.name == slot.field.name else "float32", "per": slot.field.per}


def readme(arrays: str, more: str = "") -> str:
    """The attribute of a file that tells a stranger how to read it. arrays: where those of record i are."""
    return (
        f"featx region features. Record i belongs to the picture keys[i] (sorted UTF-8); {arrays}; count[i] of them "
        "are real. boxes are x0 y0 x1 y1 in pixels of the upright original, whose (height, width) is size[i]. ordinal "
        "is the position in the source list, checksum the xxh3_64 of the record as FORMAT.md has it. dtype bfloat16 is "
        "held as its uint16 bits, int8 as uint8 codes q: x = scale * (q - zero) where (scale, zero) is the row of "
        f"NAME_scale that belongs to it.{more}"
    )
