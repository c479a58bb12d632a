"""Records -> one batch of torch tensors. The only module of the store that needs torch, and only when called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featx.errors import MissingDependency
from featx.record import Record, RecordBatch
from featx.schema import Array, Schema


def collate(keys: Sequence[str], records: Iterable[Record], schema: Schema) -> RecordBatch:
    """Pad the records of ``keys`` with zeros to the longest and stack them.

    Where the schema fixes the number of rows, one record at a time is held. Arrays are gathered in the dtype they are
    read in and the features converted by torch in one go: numpy converts float16 fifteen times slower.
    """
    torch = _torch()
    rows = schema.rows
    if rows is None:
        records = list(records)
        rows = max((len(record.features) for record in records), default=0)
    arrays = [np.empty((len(keys), *field.shape_for(rows)), field.memory_dtype) for field in schema.fields]
    counts, sizes = np.empty((len(keys), 1), np.int64), np.empty((len(keys), 2), np.float32)
    for place, record in enumerate(records):
        counts[place], sizes[place] = record.count, record.size
        for array, field in zip(arrays, schema.fields, strict=True):
            _fill(array[place : place + 1], record.array(field.name), field.per == "region")
    features, boxes, *extras = map(torch.from_numpy, arrays)
    mask = torch.from_numpy(np.arange(rows) < counts)
    extra = {field.name: tensor for field, tensor in zip(schema.extras, extras, strict=True)}
    return RecordBatch(tuple(keys), features.to(torch.float32), boxes, mask, torch.from_numpy(sizes), extra)


def _fill(out: Array, array: Array, padded: bool) -> None:
    """Copy one record's array to ``out[0]``, zeros behind its last row."""
    if padded:
        out[0, : len(array)] = array
        out[0, len(array) :] = 0
    else:
        out[0] = array


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingDependency("a batch of tensors needs torch", "pip install torch") from None
    return torch
