"""One finished part of a store, by itself: its keys and what it refused."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from featx.codec import store_key, text
from featx.errors import StoreDamaged
from featx.schema import Schema
from featx.store import PartManifest, Refusal
from featx.store.base import open_sealed
from featx.store.ledger import read_ledger


class Part:
    """Reads the finished part in ``folder``. Raises StoreDamaged when it is not as it was written."""

    def __init__(self, folder: Path, backend: str, schema: Schema) -> None:
        manifest = PartManifest.load(folder)
        if manifest is None:
            raise StoreDamaged(f"{folder} has no part.json", "run `featx verify --repair` on its store first")
        self.folder, self.manifest = folder, manifest
        self._shards = open_sealed(backend, folder, schema, manifest)

    def names(self) -> Iterator[str]:
        """All keys, in the order of their stored bytes."""
        return (self.manifest.aliases.get(text(key)) or text(key) for key in heapq.merge(*self._shards))

    def __contains__(self, key: str) -> bool:
        stored = store_key(key)
        return any(stored in shard for shard in self._shards)

    def refusals(self) -> list[Refusal]:
        """The pictures it refused."""
        return read_ledger(self.folder / "ledger.jsonl")

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(self.manifest.files.values())

    def close(self) -> None:
        """Let go of its files."""
        for shard in self._shards:
            shard.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
