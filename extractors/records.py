"""Tensors of one picture -> a record that fits the schema."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from featx.record import Record
from featx.rounding import rounded
from featx.schema import Array, Field, Schema


def record_of(arrays: Mapping[str, torch.Tensor | None], schema: Schema, size: tuple[int, int], count: int) -> Record:
    """The record of ``count`` regions: the schema's fields out of ``arrays`` (CPU tensors ``[count, ...]`` by name,
    once per picture without the first axis).

    Where the schema fixes the number of rows, zero rows are added behind the real ones. ``size`` is (height, width) of
    the original. Features are rounded to the schema's dtype, so that the record equals the one a store gives back.
    """
    rows = count if schema.rows is None else schema.rows
    fitted = {field.name: _fit(arrays[field.name], field, rows) for field in schema.fields}
    return Record(fitted.pop("features"), fitted.pop("boxes"), size, count, fitted)


def _fit(values: torch.Tensor | None, field: Field, rows: int) -> Array:
    if values is None:
        raise TypeError(f"no values for the field {field.name!r} of the schema")
    if field.per == "picture":
        return values.numpy().astype(field.memory_dtype)
    padded = np.zeros(field.shape_for(rows), field.memory_dtype)
    padded[: len(values)] = rounded(values.numpy(), field.dtype, field.name)
    return padded
