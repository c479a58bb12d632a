"""Items of any format -> a store: ledger, repeats, resuming and provenance are written once, here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import RecordError, UsageError
from featx.formats.base import Format, Item, unit
from featx.formats.identity import file_facts
from featx.formats.options import Options
from featx.record import Record
from featx.schema import Schema
from featx.store import PartWriter, Totals, create_store, open_part

_TOLD = ("key", "background")  # options that decide what the records are, and under which keys
Begin = Callable[[int | None, int], object]
Tick = Callable[[int], object]


def import_items(
    form: Format,
    source: str | os.PathLike[str],
    store: str | os.PathLike[str],
    options: Options | None = None,
    *,
    backend: str = "lmdb",
    begin: Begin = lambda total, done: None,
    tick: Tick = lambda count: None,
) -> Totals:
    """Read a foreign file into a store of one part; killed, the same call goes on where it was.

    What is wrong becomes a line of the ledger with its place: a bad item, one whose key is there already, one with a
    class id beyond the names that were told. begin is told how many items there are (None: only reading can tell) and
    how many of them an earlier call did; tick, how many more are done. Returns the counts. Raises UsageError when there
    is no usable item at all, or the first one has an id beyond the names: nothing is made then.
    """
    path, options = Path(source), options or Options()
    check_source(path)
    schema, labels = form.schema(path, options), form.labels(path, options)
    _check_first(form, path, options, labels)
    survey = form.survey(path, options)
    create_store(store, backend, schema, {"source": _source(form, options, survey.facts)}, labels)
    with open_part(store) as writer:
        if writer.finished is None:
            done = writer.ordinals()
            start = next(n for n in range(len(done) + 1) if n not in done)
            begin(survey.total, start)
            keys: set[str] = set()
            for item in form.read(path, options, start):
                if item.number not in done:
                    _take(writer, item, keys, f"{path.name}, {item.place}", labels, unit(form))
                tick(1)
        return writer.finish().totals


def _source(form: Format, options: Options, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the provenance: an import is resumed only with the same."""
    plain = Options()
    told = {name: getattr(options, name) for name in _TOLD if getattr(options, name) != getattr(plain, name)}
    if options.sizes:
        told["sizes"] = file_facts(Path(options.sizes))
    return {"format": form.name, **facts, **({"told": told} if told else {})}


def check_source(path: Path) -> None:
    """Raise UsageError for what cannot be read more than once: a pipe or a device."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} is no file and no folder, and is read more than once", "save it to a file first")


def _check_first(form: Format, path: Path, options: Options, labels: Mapping[str, Any]) -> None:
    """Raise UsageError when there are items and none is usable, or the first that is has an id beyond the names."""
    usable, problem = False, ""
    for item in form.read(path, options):
        if item.record is None:
            problem = problem or f"{item.place}: {item.problem}"
            continue
        usable = True
        if unnamed := _unnamed(item.record, labels):
            raise UsageError(f"{path}: {unnamed}", "give the lists that the ids of this file count in")
        if len(item.record) or not labels:  # one without regions has no ids
            return
    if problem and not usable:
        raise UsageError(
            f"{path} has no {unit(form)} that can be read; the first of them, {problem}", "make a new copy"
        )


def _take(writer: PartWriter, item: Item, keys: set[str], place: str, labels: Mapping[str, Any], kind: str) -> None:
    """Store an item, or refuse it: a bad or repeated one under its number, so that every key stays one picture."""
    problem = item.problem
    if not problem and (item.key in keys or item.key in writer.done):
        problem = f"{item.key!r} is in an earlier {kind} too"
    if item.record and not problem:
        problem = _unnamed(item.record, labels)
    try:
        if item.record is None or problem:
            raise RecordError(problem)
        writer.put(item.key, _cast(item.record, writer.schema), item.number)
        keys.add(item.key)
    except UsageError as error:  # RecordError is one
        writer.refuse(f"{kind} {item.number}", item.number, place, f"bad-{kind}", error.message)


def _unnamed(record: Record, labels: Mapping[str, Any]) -> str:
    """What is wrong with the ids of a record: one that the list of names does not reach. '' when nothing is."""
    for one, kind, other in (("object", "objects", "attribute"), ("attribute", "attributes", "object")):
        names, ids = labels.get(kind) or (), record.extra.get(f"{one}_ids", np.empty(0))
        if names and ids.size and ids.max() >= len(names):
            return (
                f"{one} id {ids.max()} but the vocabulary has {len(names)} names: was the {other} list given as {kind}?"
            )
    return ""


def _cast(record: Record, schema: Schema) -> Record:
    """The record with features as the store has them; the length of none at all is not in most files."""
    found = record.features if len(record) else np.empty((0, schema.dim), np.float32)
    with np.errstate(over="ignore"):  # infinity is told by the record's own check
        features = found.astype(schema.fields[0].memory_dtype, copy=False)
    return Record(features, record.boxes, record.size, record.count, record.extra)
