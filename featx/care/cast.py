"""A record in the arrays of another schema: other dtypes, fewer rows."""

from __future__ import annotations

import numpy as np

from featx.errors import RecordError
from featx.record import Record
from featx.schema import Array, Field, Schema


def recast(record: Record, schema: Schema, *, trim: bool = False) -> Record:
    """The record with the fields of ``schema`` in its dtypes; ``trim`` leaves out the rows behind its regions.

    Raises RecordError for a value beyond the range of its new dtype, and for a field that the record lacks.
    """
    rows = record.count if trim else len(record.features)
    arrays = {field.name: _cast(record.array(field.name), field, rows) for field in schema.fields}
    features, boxes = arrays.pop("features"), arrays.pop("boxes")
    return Record(features, boxes, record.size, record.count, arrays)


def _cast(array: Array, field: Field, rows: int) -> Array:
    kept = array[:rows] if field.per == "region" else array
    with np.errstate(over="ignore"):
        made: Array = np.array(kept, field.memory_dtype, order="C")
    if made.dtype.kind == "f" and not np.isfinite(made).all():
        raise RecordError(
            f"field {field.name!r} holds {np.abs(kept).max():g}, beyond the range of {field.dtype}",
            "keep float32, or choose bfloat16",
        )
    return made
