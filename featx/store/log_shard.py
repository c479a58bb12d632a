"""The records of an open part, read while its writer goes on.

Readers never map an open part: it may be cut at any moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from featx.codec import Header, examine, peek, text
from featx.errors import StoreDamaged, StoreError
from featx.schema import Schema
from featx.store.base import Shard
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.log_group import PAGE, value_at
from featx.store.log_index import REMEDY, Index


class LogShard(Shard):
    """Reads the whole groups of an open part, and follows its writer."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema, self.frame = path, schema, ""
        self._index = Index(path)
        self._lock = threading.Lock()  # threads may share a reader
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._follow()

    def _follow(self) -> dict[bytes, int]:
        with self._lock:
            self._index.follow(self._handle)
            return self._index.places

    @property
    def _handle(self) -> int:
        if self._file < 0:
            raise StoreError(f"{self.path} was closed", "open the store again")
        return self._file

    def __len__(self) -> int:
        return len(self._follow())

    def __contains__(self, key: object) -> bool:
        return key in self._index.places or key in self._follow()

    def get(self, key: bytes) -> bytes | None:
        record = self._read(key)
        if record is not None:
            examine(record, self.schema, key)
        return record

    def read_into(self, memory: bytearray, keys: Sequence[bytes]) -> Iterator[tuple[bytes, memoryview]]:
        """Records of the first of ``keys``, as many as ``memory`` has room for but at least one, unverified."""
        view, used = memoryview(memory), 0
        for key in keys:
            place = self._index.places[key]
            length = place % 2**32
            if used + length > len(view):
                if used:
                    return
                view = memoryview(bytearray(length))
            room = view[used : used + length]
            if os.preadv(self._handle, [room], (place >> 32) * PAGE + PAGE_HEADER.size) != length:
                raise StoreDamaged(f"{self.path} ends within record {text(key)!r}", REMEDY)
            yield key, room
            used += length

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._follow()))

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        return ((key, peek(self._read(key, 64) or b"", key)) for key in self)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close

    def _read(self, key: bytes, most: int = 2**32) -> bytes | None:
        place = self._index.places.get(key) or self._follow().get(key)
        return None if place is None else value_at(self._handle, place >> 32, min(place % 2**32, most))
