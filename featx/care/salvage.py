"""Every record of one part that is as it was written, whatever happened to the rest of the part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from featx.care.groups import grouped_values
from featx.care.pages import Pages, named_values, read_pages, value_at
from featx.codec import layout, peek, store_key, text, unpack
from featx.errors import FeatxError
from featx.schema import Schema
from featx.store.base import Shard, backend
from featx.store.ledger import Refusal
from featx.store.manifest import PartManifest

_MOST_TRIES = 100_000  # of records without a name against names without a record


@dataclass
class Salvage:
    """Reads one part. ``lost``, ``unnamed`` and ``notes`` are whole when :meth:`records` has come to its end.

    manifest: its part.json, None when there is none that can be read.
    lost: stored key -> why it has no record. unnamed: records whose key stands nowhere any more.
    """

    folder: Path
    backend: str
    schema: Schema
    manifest: PartManifest | None = None
    lost: dict[bytes, str] = field(default_factory=dict)
    unnamed: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.manifest = PartManifest.load(self.folder)
        except FeatxError as error:
            self.notes.append(error.message)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """(stored key, record) of everything that is sound, each key once."""
        seen: set[bytes] = set()
        for key, stored in self._found(seen):
            if key not in seen:
                seen.add(key)
                self.lost.pop(key, None)
                yield key, stored

    def names(self) -> dict[bytes, str]:
        """The originals of the keys that were too long to be stored."""
        known = dict(self.manifest.aliases) if self.manifest else {}
        rows = tolerant_lines(self.folder / "aliases.jsonl")
        listed = {store_key(row["key"]): row["key"] for row in rows if isinstance(row.get("key"), str)}
        return {key.encode(): name for key, name in known.items()} | listed

    def refusals(self) -> list[Refusal]:
        """The lines of the ledger that can be read, the last one for each key."""
        found = {}
        for row in tolerant_lines(self.folder / "ledger.jsonl"):
            try:
                found[row["key"]] = Refusal(**row)
            except (KeyError, TypeError):
                self.notes.append(f"a line of {self.folder / 'ledger.jsonl'} is no refusal; its picture is tried again")
        return list(found.values())

    def _found(self, seen: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for shard in self._shards():
            yield from self._through(shard)
            shard.close()
        whole = self.manifest is not None and not self.lost and len(seen) == self.manifest.totals.records
        for path in [] if whole else self._files():
            pages = read_pages(path)
            if pages is not None:
                yield from self._scanned(path, pages, seen)
        if self.manifest is not None and len(seen) == self.manifest.totals.records:
            self.lost.clear()  # names that damage made up: nothing is missing

    def _shards(self) -> list[Shard]:
        """The files of the part that its backend can still open."""
        try:
            return backend(self.backend).open_shards(self.folder, self.schema, sealed=self.manifest is not None)
        except (FeatxError, OSError) as error:
            self.notes.append(str(getattr(error, "message", error)))
            return []

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".lmdb", ".h5", ".log"))

    def _through(self, shard: Shard) -> Iterator[tuple[bytes, bytes]]:
        """By the index of the file. A frame that has changed may lead astray, but never to a wrong record."""
        frames = self.manifest.frames if self.manifest else {}
        trusted = shard.frame == frames.get(shard.path.name, shard.frame)
        try:
            for key in shard:
                stored = self._checked(shard, key)
                if stored is not None:
                    yield key, stored
                elif not trusted and not _plausible(key):
                    self.lost.pop(key, None)
        except FeatxError as error:
            self.notes.append(error.message)

    def _checked(self, shard: Shard, key: bytes) -> bytes | None:
        try:
            stored = shard.get(key)
            if stored is None:
                self.lost[key] = "it is listed, but cannot be found"
                return None
            unpack(stored, self.schema, key)
            return bytes(stored)
        except FeatxError as error:
            self.lost[key] = error.message
            return None

    def _scanned(self, path: Path, pages: Pages, seen: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """By the leaves of the tree, one by one, and by the groups that were written; then by trying the records nobody
        names under the names left over."""
        taken = set()
        for key, page, value in chain(named_values(pages), grouped_values(path, pages)):
            stored = None if key in seen else self._fitting(value, key)
            if stored is not None:
                yield key, stored
            if key in seen:
                taken.add(page)
            elif _plausible(key):
                self.lost.setdefault(key, f"record {text(key)!r} is damaged")
        yield from self._matched([value_at(pages, page) for page in pages.values.tolist() if page not in taken])

    def _matched(self, nameless: list[memoryview]) -> Iterator[tuple[bytes, bytes]]:
        """Records that no readable leaf names, under names whose record was not found where it should be."""
        tries = ((value, key) for value in nameless for key in list(self.lost))
        found = 0
        for value, key in islice(tries, _MOST_TRIES):
            stored = self._fitting(value, key)
            if stored is not None:
                found += 1
                yield key, stored
        self.unnamed += max(0, len(nameless) - found - len(self.lost))

    def _fitting(self, value: memoryview, key: bytes) -> bytes | None:
        """The record at the beginning of ``value`` if it belongs to ``key``."""
        try:
            stored = value[: layout(self.schema, peek(value, key).rows)[1]]
            unpack(stored, self.schema, key)
        except FeatxError:
            return None
        return bytes(stored)


def tolerant_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects among the lines of a file; lines that are none are left out."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _plausible(key: bytes) -> bool:
    """Whether these bytes can be a key at all."""
    try:
        return store_key(key.decode()) == key or len(key) > 400
    except (UnicodeDecodeError, FeatxError):
        return False
