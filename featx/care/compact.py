"""A store written anew: in few files, in another backend, with another dtype, without padding or refusals."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from featx.care.copying import check_complete, copy_records, copy_refusals, facts, portions, told, with_dtype
from featx.care.folders import copy_part
from featx.care.origin import begin_store, check_outside, digest, refused
from featx.errors import UsageError
from featx.progress import Tick
from featx.store import Manifest, StoreReader, disk, open_part, open_store
from featx.store.completion import manifest_lock
from featx.store.manifest import part_folder


def compact(
    store: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    parts: int = 1,
    backend: str | None = None,
    dtype: str | None = None,
    drop_padding: bool = False,
    drop_refused: bool = False,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
) -> Manifest:
    """Write the complete store ``store`` anew as ``out``, in ``parts`` parts of about equal size, in the order of keys.

    Records are copied as they are stored; only another ``dtype`` of the features, or ``drop_padding`` (rows behind the
    regions of a record), takes them apart, and then ``recoded`` in the provenance says so. drop_refused: without the
    ledger, and so without the list of pictures. Killed, the same call goes on. Raises StoreError for an unfinished
    store, UsageError for an ``out`` made of anything else, RecordError for a value beyond the range of the new dtype.
    """
    if parts < 1:
        raise UsageError(f"a store of {parts} parts cannot be", "give at least 1 part")
    check_outside(out, store)
    with open_store(store, partial=True) as reader:
        check_complete(str(store), reader)
        made = _facts(reader, backend, dtype, drop_padding, drop_refused)
        kept = made["provenance"] == reader.manifest.provenance and not drop_refused  # still the list that it was
        if kept and _is_made(reader, Path(out)):
            made["sources"] = reader.manifest.sources
        manifest = begin_store(Path(out), made, parts)
        begin(volume(reader))
        if _as_it_is(reader, manifest, drop_refused):
            copy_part(part_folder(Path(store), 0, 1), Path(out), 0, 1, tick=tick)
            with open_part(Path(out)) as writer:
                writer.finish()
        else:
            _fill(reader, Path(out), parts, drop_padding, drop_refused, tick)
        if kept:
            _take_over(Path(out), reader.manifest.sources)
    return Manifest.load(Path(out))


def volume(reader: StoreReader) -> int:
    """Bytes of all files of its finished parts."""
    return sum(sum(part.files.values()) for part in reader.parts)


def blocks(reader: StoreReader, parts: int) -> Iterator[tuple[Iterator[str], int, int]]:
    """For each part its keys, as many consecutive ones as make the parts equal, give or take one; how many these are;
    and how many bytes of the store fall to them."""
    keys = iter(reader)
    whole, more = divmod(len(reader), parts)
    counts = [whole + (part < more) for part in range(parts)]
    for count, size in zip(counts, portions(volume(reader), counts), strict=True):
        yield islice(keys, count), count, size


def _fill(reader: StoreReader, out: Path, parts: int, trim: bool, drop_refused: bool, tick: Tick) -> None:
    for part, (block, count, size) in enumerate(blocks(reader, parts)):
        keys = told(block, count, size, tick)
        with open_part(out, part) as writer:
            if writer.finished is None:
                copy_records(reader, keys, writer, trim=trim)
                if part == 0 and not drop_refused:
                    copy_refusals(reader.failures(), writer)
            deque(keys, maxlen=0)  # a finished part is passed over
            writer.finish()


def _as_it_is(reader: StoreReader, made: Manifest, drop_refused: bool) -> bool:
    """Whether the one part of a store can stay the file it is."""
    old = reader.manifest
    alike = (old.backend, old.parts, old.schema) == (made.backend, made.parts, made.schema)
    return alike and made.parts == 1 and not (drop_refused and old.totals and old.totals.refused)


def _facts(
    reader: StoreReader, backend: str | None, dtype: str | None, drop_padding: bool, drop_refused: bool
) -> dict[str, Any]:
    manifest = reader.manifest
    schema, provenance, changes = manifest.schema, dict(manifest.provenance), {}
    if dtype is not None and dtype != schema.fields[0].dtype:
        changes["features"] = f"{schema.fields[0].dtype} to {dtype}"
        schema = with_dtype(schema, dtype)
    if drop_padding and schema.rows is not None:
        changes["rows"] = f"{schema.rows} to as many as there are"
        schema = replace(schema, rows=None)
    if changes:
        provenance["recoded"] = changes
    failures = [] if drop_refused else list(reader.failures())
    listed = {} if drop_refused else dict(manifest.sources or {})
    origin = {"store": digest(reader), "refused": refused(failures)}
    sources = {**listed, "pictures": len(reader) + len(failures), "compacted": origin}
    name = backend or manifest.backend
    return facts(manifest, backend_name=name, schema=schema, provenance=provenance, sources=sources)


def _is_made(reader: StoreReader, out: Path) -> bool:
    """Whether ``out`` is the whole of what would be made of the store."""
    if not (out / "manifest.json").exists() or not Manifest.load(out).complete:
        return False
    with open_store(out) as there:
        alike = all(getattr(there.manifest, name) == getattr(reader.manifest, name) for name in ("totals", "sources"))
        return alike and refused(there.failures()) == refused(reader.failures())


def _take_over(out: Path, sources: Mapping[str, Any] | None) -> None:
    """The list of pictures alone, now that all of them are there."""
    with disk.room(out), manifest_lock(out):
        replace(Manifest.load(out), sources=sources).save(out)
