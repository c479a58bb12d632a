"""Records -> one batch of torch tensors. The only module of the store that needs torch, and only when called.

This is the plain way, in numpy and torch: one record after another. What is done natively must give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from featx.errors import MissingDependency, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array, Field, Schema

DTYPES = ("float32", "stored")
BOXES = ("pixels", "unit")


def collate(keys: Sequence[str], records: Iterable[Record], schema: Schema) -> RecordBatch:
    """The records of ``keys`` as a batch in fresh memory, padded with zeros to the longest."""
    records, rows = _measured(records, schema)
    return fill(keys, records, schema, allocate(schema, len(keys), rows))


def gather(
    keys: Sequence[str],
    records: Iterable[Record],
    schema: Schema,
    out: RecordBatch | None,
    dtype: str,
    boxes: str,
    fields: Sequence[str] | None,
) -> RecordBatch:
    """What :meth:`featx.store.StoreReader.get_batch` does, record by record."""
    check_asked(schema, len(keys), out, dtype, boxes, fields)
    if out is None:
        records, rows = _measured(records, schema)
        out = allocate(schema, len(keys), rows, dtype, fields)
    batch = fill(keys, records, schema, out)
    if boxes == "unit":
        batch.boxes.div_(batch.sizes.flip(1).repeat(1, 2)[:, None])
    return batch


def check_asked(
    schema: Schema, size: int, out: RecordBatch | None, dtype: str, boxes: str, fields: Sequence[str] | None
) -> None:
    """Raise UsageError for boxes that nobody knows, and for an ``out`` that cannot take ``size`` records."""
    if boxes not in BOXES:
        raise UsageError(f"boxes is {boxes!r}", f"ask for one of {', '.join(BOXES)}")
    if out is not None:
        _check_out(out, schema, size, dtype, fields)


def _check_out(out: RecordBatch, schema: Schema, size: int, dtype: str, fields: Sequence[str] | None) -> None:
    """Raise UsageError, saying which tensor and why."""
    if dtype != "float32" or fields is not None:
        raise UsageError("dtype and fields were given beside out", "out decides both: leave them out")
    if out.features.ndim != 3:
        raise UsageError(f"out's features are {list(out.features.shape)}", "make it by the buffer() of this store")
    room, rows = out.features.shape[:2]
    if size > room:
        raise UsageError(f"out has {room} places, {size} records were asked for", "make a larger buffer")
    if schema.rows is not None and schema.rows > rows:
        raise UsageError(f"out has room for {rows} rows, records have {schema.rows}", "make a buffer of more rows")
    likely = "float32" if out.features.dtype is _torch().float32 else "stored"
    own, extra = _expected(schema, room, rows, likely, tuple(out.extra))
    _check_tensors({name: getattr(out, name) for name in own}, own)
    _check_tensors(out.extra, extra)


def _check_tensors(tensors: Mapping[str, Any], expected: Mapping[str, tuple[Any, Any]]) -> None:
    for name, (shape, kind) in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype is not kind or not (tensor.is_cpu and tensor.is_contiguous()):
            found = f"{tensor.dtype} {list(tensor.shape)} on {tensor.device.type}"
            raise UsageError(
                f"out's {name} is {found}{'' if tensor.is_contiguous() else ', not contiguous'}; "
                f"expected {kind} {list(shape)} on cpu",
                "make it by the buffer() of this store",
            )


def allocate(
    schema: Schema, size: int, rows: int, dtype: str = "float32", fields: Sequence[str] | None = None, pin: bool = False
) -> RecordBatch:
    """Tensors for ``size`` records of up to ``rows`` rows, of any content; see :meth:`StoreReader.buffer`."""
    torch = _torch()
    if pin and not torch.cuda.is_available():
        raise UsageError("pinned memory needs a GPU, and torch finds none", "leave pin out")
    own, extra = (
        {name: torch.empty(shape, dtype=kind, pin_memory=pin) for name, (shape, kind) in expected.items()}
        for expected in _expected(schema, size, rows, dtype, None if fields is None else tuple(fields))
    )
    return RecordBatch((), own["features"], own["boxes"], own["mask"], own["sizes"], extra)


def places_of(out: RecordBatch, keys: Sequence[str]) -> RecordBatch:
    """The first places of ``out``, for the records of ``keys``."""
    count = len(keys)
    return RecordBatch(
        tuple(keys), out.features[:count], out.boxes[:count], out.mask[:count], out.sizes[:count],
        {name: tensor[:count] for name, tensor in out.extra.items()},
    )  # fmt: skip


def fill(keys: Sequence[str], records: Iterable[Record], schema: Schema, out: RecordBatch) -> RecordBatch:
    """Read ``records`` into the first places of ``out``; zeros behind the last row of each. Returns views of it.

    Raises UsageError for a record that has more rows than ``out`` has room for.
    """
    torch = _torch()
    room = out.features.shape
    batch = places_of(out, keys)
    kept = _wanted(schema, list(out.extra))
    arrays = {f.name: batch.extra[f.name].numpy() for f in kept}
    boxes, mask, sizes = batch.boxes.numpy(), batch.mask.numpy(), batch.sizes.numpy()
    # numpy converts float16 fifteen times slower than torch does, which wants memory that may be written.
    stage = np.empty((room[1], schema.dim), schema.fields[0].memory_dtype)
    staged = torch.from_numpy(stage)
    for place, record in enumerate(records):
        rows = len(record.features)
        if rows > room[1]:
            raise UsageError(
                f"record {keys[place]!r} has {rows} rows, out has room for {room[1]}", "make a buffer of more rows"
            )
        stage[:rows] = record.features
        batch.features[place, :rows].copy_(staged[:rows])
        batch.features[place, rows:] = 0
        _put(boxes[place], record.boxes)
        mask[place] = np.arange(room[1]) < record.count
        sizes[place] = record.size
        for field in kept:
            if field.per == "region":
                _put(arrays[field.name][place], record.array(field.name))
            else:
                arrays[field.name][place] = record.array(field.name)
    return batch


def _put(out: Array, array: Array) -> None:
    """Copy one record's array, zeros behind its last row."""
    out[: len(array)], out[len(array) :] = array, 0


def _wanted(schema: Schema, fields: Sequence[str] | None) -> list[Field]:
    """The extra fields asked for, in the order of the schema. Raises UsageError for one that is not there."""
    have = [field.name for field in schema.extras]
    if strange := sorted(set(fields or ()) - set(have)):
        raise UsageError(
            f"records have no field {strange[0]!r}", f"their further fields are {', '.join(have) or 'none'}"
        )
    return [field for field in schema.extras if fields is None or field.name in fields]


def _measured(records: Iterable[Record], schema: Schema) -> tuple[Iterable[Record], int]:
    """The records, and the rows of the longest; one at a time is held where the schema fixes their number."""
    if schema.rows is not None:
        return records, schema.rows
    held = list(records)
    return held, max((len(record.features) for record in held), default=0)


@lru_cache(maxsize=64)
def _expected(
    schema: Schema, size: int, rows: int, dtype: str, fields: tuple[str, ...] | None
) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[Any, Any]]]:
    """Shape and torch's dtype of each tensor of a batch: its own, and those of extra fields."""
    torch = _torch()
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}", f"ask for one of {', '.join(DTYPES)}")
    stored = schema.fields[0].dtype
    features = stored if dtype == "stored" and stored != "int8" else "float32"
    own = {
        "features": ((rows, schema.dim), features),
        "boxes": ((rows, 4), "float32"),
        "mask": ((rows,), "bool"),
        "sizes": ((2,), "float32"),
    }
    extra = {f.name: (f.shape_for(rows), str(f.memory_dtype)) for f in _wanted(schema, fields)}
    made = (
        {name: (torch.Size((size, *shape)), getattr(torch, kind)) for name, (shape, kind) in tensors.items()}
        for tensors in (own, extra)
    )
    first, second = made
    return first, second


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingDependency("a batch of tensors needs torch", "pip install torch") from None
    return torch
