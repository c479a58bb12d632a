"""Records from one store to another, as the bytes they are stored in wherever both hold the same arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from featx.care.cast import recast
from featx.codec import HEADER_SIZE, decode, peek, store_key
from featx.errors import StoreError, UsageError
from featx.progress import Tick
from featx.schema import Schema
from featx.store import Manifest, Refusal, StoreReader
from featx.store.agree import differences
from featx.store.writer import PartWriter

_ORDINAL = slice(24, 32)  # of a stored record (FORMAT.md)
_SHOWN = 10
T = TypeVar("T")


def copy_records(source: StoreReader, keys: Iterable[str], writer: PartWriter, *, trim: bool = False) -> None:
    """Put the records of ``keys`` that the part does not have yet; the others are passed over, so a copy resumes.

    Stored bytes are copied when source and target have one schema; else records are decoded, cast to the target's
    fields, and encoded. trim: leave the padding out. Raises StoreDamaged, before anything of it is written, for a
    record that is not as it was written.
    """
    same = source.schema == writer.schema and not trim
    for key in keys:
        if key not in writer.done:
            stored = source.stored_bytes(key)
            if same:
                writer.put_stored(key, stored)
            else:
                record = recast(decode(stored, source.schema, store_key(key)), writer.schema, trim=trim)
                writer.put(key, record, peek(stored).ordinal)
    writer.commit()


def told(things: Iterable[T], count: int, size: int, tick: Tick) -> Iterator[T]:
    """The things as they are, about ``count``. ``tick`` is told of each that is done, in equal steps, of ``size`` in
    all."""
    done = 0
    for place, thing in enumerate(things, 1):
        yield thing
        share = size * place // max(count, place)
        tick(share - done)
        done = share
    tick(size - done)


def portions(size: int, counts: Sequence[int]) -> list[int]:
    """``size`` in whole numbers that are to one another as ``counts``."""
    ends = [size * count // max(sum(counts), 1) for count in accumulate(counts)]
    return [end - begin for begin, end in pairwise([0, *ends[:-1], size])]


def copy_refusals(refusals: Iterable[Refusal], writer: PartWriter) -> None:
    """Put the refusals of pictures that the part does not have yet."""
    writer.commit()
    for one in {refusal.key: refusal for refusal in refusals}.values():
        if one.key not in writer.done:
            writer.refuse(*one)
    writer.commit()


def same_content(first: bytes, second: bytes) -> bool:
    """Whether two stored records of one key hold the same, wherever their pictures stood in their lists."""
    numbers = slice(0, _ORDINAL.start)
    return first[numbers] == second[numbers] and first[HEADER_SIZE:] == second[HEADER_SIZE:]


def check_alike(manifests: Mapping[str, Manifest]) -> None:
    """Raise UsageError, with every difference, unless all stores (by name) hold the same arrays made the same way."""
    names = list(manifests)
    first = manifests[names[0]]
    lines = []
    for name in names[1:]:
        sections = ("schema", "provenance", "labels")
        lines += differences(first.to_dict(), manifests[name].to_dict(), sections, (names[0], name))
    if lines:
        raise UsageError(
            "these stores were not made the same way:\n  " + "\n  ".join(lines),
            "only stores of one make can be put together; `featx diff` shows how their content differs",
        )


def check_complete(name: str, reader: StoreReader) -> None:
    """Raise StoreError for an unfinished store: its records would be taken for all there are."""
    if not reader.manifest.complete:
        raise StoreError(f"{name} is unfinished", "finish it first: run its `featx extract` again")


def facts(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    """The arguments of ``create_store`` for a store like that of ``manifest``, with other values where given."""
    made = {
        "backend_name": manifest.backend,
        "schema": manifest.schema,
        "provenance": dict(manifest.provenance),
        "labels": dict(manifest.labels),
        "sources": manifest.sources,
    }
    return made | changes


def with_dtype(schema: Schema, dtype: str) -> Schema:
    """The schema with features of another stored dtype."""
    features, *others = schema.fields
    return replace(schema, fields=(replace(features, dtype=dtype), *others))


def some(keys: Sequence[str]) -> str:
    """The first of many keys, in quotes, and how many more there are."""
    more = f", and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return ", ".join(map(repr, keys[:_SHOWN])) + more
