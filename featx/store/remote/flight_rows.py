"""What came in a stream of batches of Arrow: records where they were received, or numbers of their headers.

Batches are validated before anything in them is followed; the bytes of a record are for whoever reads it to check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from featx.errors import FeatxError, StoreDamaged
from featx.schema import Array
from featx.store.remote.fetched import Fetched
from featx.store.remote.retry import Transient

_VIEW = np.dtype([("length", "<i4"), ("prefix", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
_INLINE = 12  # bytes up to which a value lies in its view
_HINT = "run `featx verify` on the store where it lies; `featx verify --repair` makes a sound copy"


def records(stream: Any, names: Sequence[str], where: str) -> Fetched:
    """The records of a stream in the form ``views``. Raises Transient for what is no answer about ``names``."""
    addresses, sizes = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    errors: dict[int, FeatxError] = {}
    held = []
    first = 0
    for batch in _checked(stream, ["key", "record", "problem"], names):
        end = first + batch.num_rows
        column = batch.column(1)
        if str(column.type) != "binary_view":
            raise _strange(f"a column of {column.type}")
        addresses[first:end], sizes[first:end] = _places(column)
        errors |= _damaged(batch.column(2), first, names, where)
        held.append(batch)
        first = end
    return Fetched(addresses, sizes, errors, held)


class Counts(NamedTuple):
    """rows: rows and real rows of each record, int64 ``[B, 2]``. there: bool ``[B]``, False where there is none.

    errors: why, by place, where it is not that the key is absent.
    """

    rows: Array
    there: Array
    errors: Mapping[int, FeatxError]


def counts(stream: Any, names: Sequence[str], where: str) -> Counts:
    """What a stream in the form ``headers`` says. Raises Transient for what is no answer about ``names``."""
    found, there = np.zeros((len(names), 2), np.int64), np.zeros(len(names), bool)
    errors: dict[int, FeatxError] = {}
    first = 0
    columns = ["key", "ordinal", "count", "size", "checksum", "rows", "problem"]
    for batch in _checked(stream, columns, names):
        end = first + batch.num_rows
        for place, name in enumerate(("rows", "count")):
            column = batch.column(name)
            found[first:end, place] = column.fill_null(0).to_numpy(zero_copy_only=False)
            there[first:end] = column.is_valid().to_numpy(zero_copy_only=False)
        errors |= _damaged(batch.column("problem"), first, names, where)
        first = end
    return Counts(found, there, errors)


def keys(stream: Any) -> list[Any]:
    """The column of keys of a stream, batch by batch."""
    return [batch.column(0) for batch in _checked(stream, ["key", "problem"], None)]


def _checked(stream: Any, columns: Sequence[str], names: Sequence[str] | None) -> Iterator[Any]:
    """The batches of a stream, which must have these columns and be about ``names``, each once, in their order."""
    if stream.schema.names != list(columns) or str(stream.schema.field(0).type) != "string":
        raise _strange(f"the columns {', '.join(stream.schema.names)[:200]}")
    first = 0
    for chunk in stream:
        batch = chunk.data
        batch.validate(full=True)
        if names is not None and batch.column(0).to_pylist() != list(names[first : first + batch.num_rows]):
            raise _strange("other keys than were asked for")
        first += batch.num_rows
        yield batch
    if names is not None and first != len(names):
        raise _strange(f"{first} of {len(names)} records")


def _damaged(problems: Any, first: int, names: Sequence[str], where: str) -> dict[int, FeatxError]:
    """The errors of records that are damaged where they are stored, by place; ``first`` is that of the column."""
    if problems.null_count == len(problems):
        return {}
    told = ((place, problem) for place, problem in enumerate(problems.to_pylist(), first) if isinstance(problem, dict))
    return {
        place: StoreDamaged(f"record {names[place]!r} of {where} is damaged there: {problem.get('message')}", _HINT)
        for place, problem in told
        if problem.get("kind") == "damaged"
    }


def _places(column: Any) -> tuple[Array, Array]:
    """Addresses and sizes of the values of a validated column of binary_view; 0 where one is null."""
    if not len(column):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, views, *data = column.buffers()
    view = np.frombuffer(views, _VIEW, len(column), column.offset * _VIEW.itemsize)
    inline = views.address + _VIEW.itemsize * (column.offset + np.arange(len(column), dtype=np.int64)) + 4
    starts = np.array([0 if buffer is None else buffer.address for buffer in data] or [0], np.int64)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    inside = (view["length"] <= _INLINE) | ~there  # what a view of nothing says was not validated
    addresses = np.where(inside, inline, starts[np.where(inside, 0, view["buffer"])] + view["offset"])
    return np.where(there, addresses, 0), np.where(there, view["length"], 0)


def _strange(what: str) -> Transient:
    return Transient(f"the answer is damaged: {what} came", once=True)
