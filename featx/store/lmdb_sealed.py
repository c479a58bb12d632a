"""A finished LMDB file, for reading: mapped once, looked up by our own walk of its tree, never given to LMDB."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from featx.codec import Header, first_record, peek
from featx.errors import StoreError
from featx.schema import Schema
from featx.store.base import Shard, Words
from featx.store.lmdb_file import frame
from featx.store.lmdb_tree import Tree, Value


class SealedShard(Shard):
    """Reads the records of one LMDB file that nobody writes any more. Opening it reads its meta pages."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema = path, schema
        self._tree: Tree | None = Tree(path)

    @cached_property
    def frame(self) -> str:  # type: ignore[override]
        return frame(self.path)

    def __len__(self) -> int:
        return self._opened.meta.entries

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._opened.find(key) is not None

    def get(self, key: bytes) -> bytes | None:
        tree = self._opened
        place = tree.find(key)
        return None if place is None else bytes(first_record(_bytes(tree, place), self.schema, key))

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._opened.items())

    def after(self, key: bytes) -> Iterator[bytes]:
        return (found for found, _ in self._opened.items(key))

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        tree = self._opened
        return ((key, peek(_bytes(tree, place), key)) for key, place in tree.items())

    def close(self) -> None:
        self._tree = None

    def words(self) -> Words:
        tree = self._opened
        start = tree.whole.ctypes.data
        facts = (start, tree.meta.page_size, tree.meta.last_page, tree.meta.root)
        return Words((0,), facts, len(tree.whole) // 8, tree, tree.view)

    @property
    def _opened(self) -> Tree:
        if self._tree is None:
            raise StoreError(f"{self.path} was closed", "open the store again")
        return self._tree


def _bytes(tree: Tree, place: Value) -> memoryview:
    return tree.view[place.offset : place.offset + place.size]
