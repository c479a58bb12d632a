"""Records as columns of Arrow, as Hugging Face ``datasets`` has them, and back.

A row is a picture: ``key``, ``height``, ``width``, ``count`` (real rows; the others are padding), and a column for
every field of the store's schema: lists of lists of numbers, which the extension types of ``datasets`` (Array2D to
Array5D) make into arrays; their names and the entry ``huggingface`` in the metadata are put there without that package.
bfloat16 and int8 are float32 here, with the values that they read as.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from featx.errors import MissingDependency, UsageError
from featx.formats.description import NAME, Description
from featx.formats.records import Records
from featx.record import Record
from featx.schema import Array, Field, Schema

PLAIN = ("key", "height", "width", "count")
BATCH = 1 << 20  # bytes of records that make a batch, all of which a damaged byte costs
_MOST = 1000  # records of one, however small
_DEEPEST = 5  # dimensions of an array of ``datasets``
_EXTENSION = "datasets.features.features.Array{}DExtensionType"


def pyarrow() -> Any:
    """The package. Raises MissingDependency."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingDependency(f"Arrow and Parquet need pyarrow ({error})", "pip install 'featx[formats]'") from None
    return pyarrow


def faults() -> tuple[type[Exception], ...]:
    """What pyarrow raises for data that is damaged or not what it seems."""
    return (
        pyarrow().ArrowException, ValueError, OSError, LookupError, TypeError, AttributeError, NotImplementedError,
        MemoryError, OverflowError, RuntimeError,
    )  # fmt: skip


def schema_of(description: Description) -> Any:
    """The Arrow schema of records, with ``description`` in its metadata. Raises UsageError for what has no column."""
    pa, schema = pyarrow(), description.schema
    if taken := next((name for name in schema.names if name in PLAIN), None):
        raise UsageError(f"a field called {taken!r} has no place in a table", "export another format")
    fields = [pa.field("key", pa.string()), *(pa.field(name, pa.int64()) for name in PLAIN[1:])]
    told: dict[str, Any] = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in fields}
    for field in schema.fields:
        shape = [schema.rows, *field.shape] if field.per == "region" else field.shape
        made, told[field.name] = array_field(field.name, shape, field.memory_dtype)
        fields.append(made)
    return pa.schema(fields, {"huggingface": features_of(told), NAME: description.dump()})


def batches(records: Records, schema: Any, most: int = BATCH) -> Iterator[Any]:
    """Record batches, each of the fewest records that have ``most`` bytes."""
    for pictures in grouped(records, most):
        yield _batch(pictures, records.schema, schema)


def grouped(records: Records, most: int = BATCH) -> Iterator[list[tuple[str, Record]]]:
    """Keys and records, as many at a time as make a batch."""
    waiting: list[tuple[str, Record]] = []
    size = 0
    for key, record in records:
        waiting.append((key, record))
        size += sum(record.array(name).nbytes for name in record.names())
        if size >= most or len(waiting) >= _MOST:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def value(column: Any, row: int) -> Any:
    """One value of a column: an array, a number or text, None for null. Raises ValueError for what is no array."""
    types, one = pyarrow().types, column.slice(row, 1)
    shape: list[int] = []
    while True:
        one = getattr(one, "storage", one)  # of an extension type
        if not (types.is_list(one.type) or types.is_large_list(one.type) or types.is_fixed_size_list(one.type)):
            break
        if one.null_count:
            return _null(shape)
        lengths = np.unique(_lengths(one))
        if len(lengths) > 1:
            raise ValueError(f"its rows have {lengths[0]} to {lengths[-1]} numbers")
        shape.append(int(lengths[0]) if len(lengths) else 0)
        one = one.flatten()
    if one.null_count:
        return _null(shape)
    if not shape:
        return one[0].as_py()
    return _numbers_of(one).reshape(shape)


def shaped(found: Any, field: Field) -> Array:
    """A value as the array of its field: a number, or lists that are empty, which do not tell what they lack.

    Raises ValueError or TypeError for what is no number.
    """
    if not isinstance(found, np.ndarray):
        return np.asarray(found, field.memory_dtype)
    if found.size or not found.ndim:
        return found
    shape = field.shape_for(len(found))
    return found if prod(shape) else found.reshape(shape)


def _null(shape: Sequence[int]) -> None:
    if shape:
        raise ValueError("a number of it is missing")


def array_field(name: str, shape: Sequence[int | None], dtype: np.dtype[Any]) -> tuple[Any, dict[str, Any]]:
    """The field of arrays of ``shape`` (None, in front only: it varies), and what ``datasets`` calls it.

    Raises UsageError for more than five dimensions.
    """
    pa = pyarrow()
    if len(shape) > _DEEPEST:
        raise UsageError(f"{name} has {len(shape)} dimensions, a table holds {_DEEPEST}", "export another format")
    kind, metadata = pa.from_numpy_dtype(dtype), None
    for _ in shape:
        kind = pa.list_(kind)
    told: dict[str, Any] = {"dtype": str(dtype), "_type": "Value"}
    if len(shape) == 1:
        told = {"feature": told, "_type": "Sequence"}
    elif shape:
        told = {"shape": list(shape), "dtype": str(dtype), "_type": f"Array{len(shape)}D"}
        facts = json.dumps([list(shape), str(dtype)])
        metadata = {"ARROW:extension:name": _EXTENSION.format(len(shape)), "ARROW:extension:metadata": facts}
    return pa.field(name, kind, metadata=metadata), told


def features_of(told: Mapping[str, Any]) -> str:
    """The entry ``huggingface`` of the metadata: what ``datasets`` calls each column."""
    return json.dumps({"info": {"features": told}})


def _batch(pictures: Sequence[tuple[str, Record]], schema: Schema, columns: Any) -> Any:
    pa, records = pyarrow(), [record for _, record in pictures]
    plain = ([record.size[0] for record in records], [record.size[1] for record in records], list(map(len, records)))
    arrays = [_text(pa, [key.encode() for key, _ in pictures])]
    arrays += [numbers(pa, np.array(column, np.int64)) for column in plain]
    arrays += [_column(pa, [record.array(field.name) for record in records], field) for field in schema.fields]
    return pa.record_batch([typed(array, field) for array, field in zip(arrays, columns, strict=True)], columns)


def typed(array: Any, field: Any) -> Any:
    """The array as the type of its column, which is an extension once ``datasets`` was imported."""
    return array if array.type == field.type else field.type.wrap_array(array)


def _column(pa: Any, arrays: Sequence[Array], field: Field) -> Any:
    """Lists of lists over the numbers of all records, which are copied once."""
    made = numbers(pa, np.concatenate([array.reshape(-1) for array in arrays]).astype(field.memory_dtype, copy=False))
    outer = sum(map(len, arrays)) if field.per == "region" else len(arrays)
    for depth in range(len(field.shape), 0, -1):
        count, extent = outer * prod(field.shape[: depth - 1]), field.shape[depth - 1]
        made = lists(pa, np.arange(count + 1, dtype=np.int32) * np.int32(extent), made)
    if field.per == "region":
        made = lists(pa, np.cumsum([0, *map(len, arrays)], dtype=np.int32), made)
    return made


# ``pa.array`` and ``to_numpy`` would do the same, but import pandas where it is installed, which takes 40 MB.
def numbers(pa: Any, array: Array) -> Any:
    """An array of numbers over those of a contiguous array."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [None, pa.py_buffer(array)])


def lists(pa: Any, ends: Array, made: Any) -> Any:
    """Lists of what is in ``made``, list n from ``ends[n]`` to ``ends[n + 1]``."""
    kind = pa.list_(made.type)
    return pa.Array.from_buffers(kind, len(ends) - 1, [None, pa.py_buffer(ends)], children=[made])


def _text(pa: Any, words: Sequence[bytes]) -> Any:
    ends = np.cumsum([0, *map(len, words)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(words), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(words))])


def _lengths(lists: Any) -> Array:
    """How long each list of an array is."""
    if pyarrow().types.is_fixed_size_list(lists.type):
        return np.full(len(lists), lists.type.list_size)
    return np.diff(_numbers_of(lists.offsets))


def _numbers_of(one: Any) -> Array:
    """The values of an array of numbers without nulls, in place. Raises ValueError for what is none."""
    types, kind = pyarrow().types, one.type
    code = "f" if types.is_floating(kind) else "i" if types.is_signed_integer(kind) else "u"
    if not (code != "u" or types.is_unsigned_integer(kind)):
        raise ValueError(f"it holds {kind}, expected numbers")
    dtype = np.dtype(f"<{code}{kind.bit_width // 8}")
    if not len(one):
        return np.empty(0, dtype)
    return np.frombuffer(one.buffers()[1], dtype, len(one), one.offset * dtype.itemsize)


def metadata_of(schema: Any) -> Mapping[bytes, bytes]:
    """The metadata of an Arrow schema."""
    return schema.metadata or {}
