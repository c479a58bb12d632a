"""A superset store read as if fewer boxes had been extracted: a reader that chooses rows as it reads.

The bytes of a record of a view are those that an extraction with its numbers would have written, ordinal and checksum
included; so are its schema and its provenance. Rows are copied as stored: no value is decoded on the way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from featx.codec import CHECKSUM, HEADER, Header, checksum, decode, layout, pack, store_key, unpack
from featx.errors import FeatxError, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array, Schema
from featx.store.gather import Choice, Gather
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest
from featx.store.reader import Order, StoreReader
from featx.store.rule import Boxes, Rule, fingerprint, parse_boxes, parse_threshold, superset_fields

_CHOICES = ("boxes", "score_threshold")
_REMOTE = ("cache", "cache_limit", "timeout")  # of a store behind a URL


def view_of(store: StoreReader, boxes: Boxes = None, score_threshold: str | float | None = None) -> StoreReader:
    """``store`` as an extraction with ``boxes`` and ``score_threshold`` would have made it; see StoreReader.view."""
    if isinstance(store, View):
        return view_of(store.superset, boxes, score_threshold)
    manifest = view_manifest(store.manifest, boxes, score_threshold)
    return store if manifest is store.manifest else View(store, manifest)


def located(where: Any) -> tuple[str, dict[str, Any]]:
    """The folder or URL of a store, and the view that is asked of it: of a path, or of ``{path: ..., boxes: 36}``.

    Raises UsageError for anything else.
    """
    if not isinstance(where, Mapping):
        if isinstance(where, str | os.PathLike) and os.fspath(where):
            return os.fspath(where), {}
        raise UsageError(f"the store is {where!r}", "give the path of its folder, or its URL")
    unknown = sorted(map(str, set(where) - {"path", *_CHOICES, *_REMOTE}))
    form = "give a path, or {path: PATH, boxes: 10..100, score_threshold: 0.2}"
    if unknown:  # its value may be secret
        token = ", and a token in the environment (FEATX_TOKEN)" if "token" in unknown else ""
        raise UsageError(f"a store has no {', '.join(map(repr, unknown))}", form + token)
    if not (isinstance(where.get("path"), str | os.PathLike) and os.fspath(where["path"])):
        raise UsageError(f"the path of the store is {where.get('path')!r}", form)
    return os.fspath(where["path"]), {name: where[name] for name in _CHOICES if where.get(name) is not None}


def remote_options(where: Any) -> dict[str, Any]:
    """What a location says of how a store behind a URL is read: ``{path: URL, cache: true, cache_limit: 10GB}``."""
    named = where if isinstance(where, Mapping) else {}
    return {name: named[name] for name in _REMOTE if named.get(name) is not None}


def is_location(where: Any) -> bool:
    """Whether ``where`` says where one store is: a path, or a mapping that has one."""
    return isinstance(where, str | os.PathLike) or (isinstance(where, Mapping) and "path" in where)


def kept(manifest: Manifest) -> int:
    """How many candidates of each picture a store keeps for views; 0 when it is no superset."""
    profile = manifest.provenance.get("profile")
    number = profile.get("superset", 0) if isinstance(profile, Mapping) else 0
    return number if isinstance(number, int) else 0


def view_manifest(manifest: Manifest, boxes: Boxes = None, score_threshold: str | float | None = None) -> Manifest:
    """The manifest that a view of a store has: schema and provenance as a direct extraction writes them.

    None stands for what the profile says. A plain store has no view but itself. The content of a view is not known
    before it is read, so its digest is that of the superset with the choice behind it. Raises UsageError for what the
    store cannot answer exactly.
    """
    if not kept(manifest):
        _check_plain(manifest, boxes, score_threshold)
        return manifest
    switches = dict(manifest.provenance["profile"])
    chosen = _chosen(switches, boxes, score_threshold)
    del switches["hash"], switches["superset"]
    switches |= {"min_boxes": chosen.least, "max_boxes": chosen.most, "score_threshold": chosen.score_threshold}
    profile = {"hash": fingerprint(switches), **switches}
    totals = manifest.totals
    if totals is not None:
        choice = f"{chosen.least}..{chosen.most}/{chosen.score_threshold:g}"
        totals = replace(totals, digest=f"{totals.digest}/{choice}")
    return replace(
        manifest,
        schema=view_schema(manifest.schema, chosen),
        provenance={**manifest.provenance, "profile": profile},
        totals=totals,
    )


def view_schema(schema: Schema, rule: Rule) -> Schema:
    """The schema of what the rule leaves of a superset: without its fields, and with as many rows as it says."""
    internal = {field.name for field in superset_fields(rule.select)}
    rows = rule.most if rule.least == rule.most else None
    return replace(schema, fields=tuple(field for field in schema.fields if field.name not in internal), rows=rows)


def _chosen(switches: Mapping[str, Any], boxes: Boxes, score_threshold: str | float | None) -> Rule:
    """The rule with the numbers asked for. Raises UsageError for those that what was kept does not decide."""
    rule, name, most = Rule.of(switches), switches.get("name"), int(switches["superset"])
    if boxes is not None:
        low, high = parse_boxes(boxes)
        if high > most:
            raise UsageError(
                f"{high} boxes are asked for, and the store keeps the best {most} of each picture",
                f"ask for at most {most}, or extract again with --superset {high}",
            )
        rule = replace(rule, least=low, most=high)
    if score_threshold is None:
        return rule
    wanted = parse_threshold(score_threshold)
    if rule.select == "maxnms" and wanted != rule.score_threshold:
        raise UsageError(
            f"the rule of the profile {name!r}, maxnms, looks at no score threshold", "leave --score-threshold out"
        )
    if rule.select == "multilabel" and wanted < rule.score_threshold:
        raise UsageError(
            f"a score threshold of {wanted:g} is asked for; the store keeps what is above {rule.score_threshold:g}",
            f"ask for at least that, or extract again with --score-threshold {wanted:g}",
        )
    return replace(rule, score_threshold=wanted)


def _check_plain(manifest: Manifest, boxes: Boxes, score_threshold: str | float | None) -> None:
    """Raise UsageError unless a plain store is already what is asked for."""
    profile = manifest.provenance.get("profile")
    switches = profile if isinstance(profile, Mapping) else {}
    wanted: dict[str, Any] = {}
    if boxes is not None:
        wanted["min_boxes"], wanted["max_boxes"] = parse_boxes(boxes)
    if score_threshold is not None:
        wanted["score_threshold"] = parse_threshold(score_threshold)
    if wanted and any(switches.get(name) != value for name, value in wanted.items()):
        rows = manifest.schema.rows
        has = f"{switches['min_boxes']}..{switches['max_boxes']}" if "min_boxes" in switches else rows or "any number"
        raise UsageError(
            f"the store is no superset: it holds what one extraction kept (boxes {has}), and nothing to choose from",
            "extract with --superset 100, and boxes and score threshold can be chosen at reading time",
        )


class View(StoreReader):
    """A superset store through the rule of its profile, with other numbers. Made by :func:`view_of`."""

    def __init__(self, superset: StoreReader, manifest: Manifest) -> None:
        self.superset, self.manifest = superset, manifest
        self._rule = Rule.of(manifest.provenance["profile"])
        self._marks = superset_fields(self._rule.select)
        self._regressed = "boxes" if self.schema.boxes == "regressed" else "regressed_boxes"

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find; the record it is made of is verified, or its damage would get a checksum that fits."""
        stored = self.superset.find(key)
        if stored is None:
            return None
        record = bytearray(self._narrowed(stored, key))
        CHECKSUM.pack_into(record, HEADER.size, checksum(record, key))
        return bytes(record)

    def __getitem__(self, key: str) -> Record:
        found = store_key(key)
        return decode(self._narrowed(self.superset.stored_bytes(key), found), self.schema, found, verify=False)

    def _narrowed(self, stored: Any, key: bytes) -> bytes:
        """The record of the view out of the stored one of the superset; only its checksum is not its own yet."""
        head, arrays = unpack(stored, self.superset.schema, key)
        named = self._named(head, arrays)
        rows = self._rows(head, named)
        length = len(rows) if self.schema.rows is None else self.schema.rows
        chosen = [
            _taken(named[slot.name], rows, length) if slot.field.per == "region" else named[slot.name]
            for slot in layout(self.schema, length)[0]
        ]
        return pack(head._replace(rows=length, count=len(rows)), chosen)

    def get_batch(
        self, keys: Sequence[str], out: RecordBatch | None = None, *, dtype: str = "float32", boxes: str = "pixels",
        fields: Sequence[str] | None = None,
    ) -> RecordBatch:  # fmt: skip
        """As StoreReader.get_batch. Natively the numbers that the rule looks at are read first, then the rows kept."""
        native = self.superset.gathering
        if native is None:
            return super().get_batch(keys, out, dtype=dtype, boxes=boxes, fields=fields)
        return native.chosen(keys, self._choice(native, keys), out, dtype, boxes, fields, self.missing)

    def _choice(self, native: Gather, keys: Sequence[str]) -> Choice:
        """The rows that the rule keeps of the record of each key."""
        names = {self._regressed, *(field.name for field in self._marks)}
        found = native.find(keys, [field for field in self.superset.schema.fields if field.name in names], self.missing)
        return Choice(found, self.schema, *self._rule.choose(found.arrays, found.arrays[self._regressed], found.counts))

    def row_counts(self, keys: Sequence[str]) -> Array:
        """Rows, and real rows among them, of the record of each key: ``[B, 2]`` int64."""
        native = self.superset.gathering
        if native is not None:
            kept = self._choice(native, keys).counts
            return np.stack([kept if self.schema.rows is None else np.full_like(kept, self.schema.rows), kept], 1)
        counts = np.empty((len(keys), 2), np.int64)
        for place, key in enumerate(keys):
            stored = self.superset.stored_bytes(key)
            head, arrays = unpack(stored, self.superset.schema, store_key(key), verify=False)
            count = len(self._rows(head, self._named(head, arrays)))
            counts[place] = count if self.schema.rows is None else self.schema.rows, count
        return counts

    def _named(self, head: Header, arrays: Sequence[Array]) -> dict[str, Array]:
        slots = layout(self.superset.schema, head.rows)[0]
        return {slot.name: array for slot, array in zip(slots, arrays, strict=True)}

    def _rows(self, head: Header, named: Mapping[str, Array]) -> Array:
        """The rows of a superset's record that the rule keeps."""
        marks = {f.name: named[f.name][: head.count] if f.per == "region" else named[f.name] for f in self._marks}
        return self._rule.rows(marks, named[self._regressed][: head.count])

    def __len__(self) -> int:
        return len(self.superset)

    def holds(self, key: bytes) -> bool:
        return self.superset.holds(key)

    def missing(self, key: str) -> FeatxError:
        return self.superset.missing(key)

    def keys(self, order: Order = "key") -> Iterator[str]:
        return self.superset.keys(order)

    def keys_after(self, key: str) -> Iterator[str]:
        return self.superset.keys_after(key)

    def failures(self) -> Iterator[Refusal]:
        return self.superset.failures()

    @property
    def parts(self) -> list[PartManifest]:
        """Those of the superset."""
        return self.superset.parts

    def close(self) -> None:
        self.superset.close()

    def __reduce__(self) -> tuple[type[View], tuple[StoreReader, Manifest]]:
        return View, (self.superset, self.manifest)

    def __repr__(self) -> str:
        rule = self._rule
        return f"View({rule.least}..{rule.most} boxes, score threshold {rule.score_threshold:g}, of {self.superset!r})"


def _taken(array: Array, rows: Array, length: int) -> Array:
    """``rows`` of an array, zeros behind them up to ``length``."""
    taken = np.zeros((length, *array.shape[1:]), array.dtype)
    taken[: len(rows)] = array[rows]
    return taken
