"""A store behind a URL, for reading: what :class:`featx.store.folder.FolderStore` is for a folder.

Single records are a GET each; batches are one POST for as many records as make a few megabytes, received where the
compiled reader takes them. Whatever arrives is checked against its checksum here, as it is when it comes from a disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from featx.codec import HEADER_SIZE, checksum, examine, peek, store_key
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array
from featx.store.batch import gather
from featx.store.gather import gatherable
from featx.store.ledger import Refusal
from featx.store.manifest import PartManifest
from featx.store.native import reader
from featx.store.reader import Checksums, Order, StoreReader
from featx.store.remote.fetched import Fetcher, Source, checked_names
from featx.store.remote.gathered import RemoteGather, came_from, plain_records
from featx.store.remote.local import LocalCache, cache_folder, read_limit
from featx.store.remote.posted import Posted
from featx.store.remote.service import Service

TIMEOUT, OPENING = 60.0, 10.0  # seconds; a server that was never there is waited for less long
FEW = 64  # keys that are asked for singly before all are listed
_HEADERS = {"Accept": "application/vnd.featx.record"}


class HttpStore(StoreReader):
    """Reads the store that a server of ``featx serve`` has under a URL.

    Opening asks for the manifest, and nothing else. Each process has connections of its own: a forked child opens its
    own on first use, and a pickle holds no more than the arguments. Threads may share a store.

    url: see :func:`featx.store.remote.address.read_address`. token: of a server that wants one; by default that of the
    environment, FEATX_TOKEN. cache, cache_limit: see :class:`featx.store.remote.local.LocalCache`; of a store that is
    unfinished nothing is kept, and with a cache every record is checked: what a crash tore may be in it. timeout:
    seconds that an answer may take, waits and further tries among them, and one more for each 256 KiB of it. What was
    tried again without success is a StoreError that names the URL.
    """

    def __init__(
        self, url: str, partial: bool = False, checksums: Checksums = "once", *, token: str | None = None,
        cache: str | os.PathLike[str] | bool | None = None, cache_limit: str | int | None = None,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        if checksums not in get_args(Checksums):
            raise UsageError(f"checksums is {checksums!r}", f"choose one of {', '.join(get_args(Checksums))}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise UsageError(f"timeout is {timeout!r}", "give seconds, more than 0")
        limit = read_limit(cache_limit)
        self._arguments: tuple[Any, ...] = (url, partial, checksums)
        self._options = {"token": token, "cache": cache, "cache_limit": cache_limit, "timeout": timeout}
        self.partial, self.checksums = partial, checksums
        self._service = Service(url, token, OPENING if timeout is None else float(timeout))
        self.url = self._service.url
        self.manifest = self._service.manifest()
        self._service.timeout = TIMEOUT if timeout is None else float(timeout)
        if not (self.manifest.complete or partial):
            raise StoreError(
                f"the store behind {self.url} is unfinished",
                "finish its extraction, or open it with partial=True to read what is there",
            )
        self._cache: LocalCache | None = None
        if self.manifest.totals is not None:
            self._service.digest = self.manifest.totals.digest
            if cache:
                self._cache = LocalCache(cache_folder(cache), self.manifest.totals.digest, limit)
        self._posted = Posted(self._service, self.schema, self._cache)
        self._fetcher = Fetcher(Source(self._posted.fetch, self._posted.portion, self.url))
        self._verified = checksums != "never" or self._cache is not None
        native = reader().module and gatherable(self.schema)
        policy: Checksums = "always" if self._verified else "never"
        self._gather = RemoteGather(self.schema, policy, self._fetcher) if native else None
        self._parts: list[PartManifest] | None = None
        self._looked_up = 0  # keys, singly
        self._known: frozenset[bytes] | None = None

    def __len__(self) -> int:
        if self.manifest.totals is not None:
            return self.manifest.totals.records
        rows = (row for row in self._service.stores() if row["name"] == self._service.name)
        return next((int(row["records"]) for row in rows), 0)

    def __contains__(self, key: object) -> bool:
        """As StoreReader. Who asks for many gets the list of all keys fetched once, where it cannot grow."""
        if not isinstance(key, str):
            return False
        try:
            stored = store_key(key)
        except UsageError:
            return False
        if self._known is None and self.manifest.complete:
            self._looked_up += 1
            if self._looked_up > FEW:
                self._known = frozenset(map(store_key, self.keys()))
        if self._known is not None:
            return stored in self._known
        return self._service.one("HEAD", stored) is not None

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find. What does not fit its checksum is asked for once more."""
        found = None if self._cache is None else self._cache.get(key)
        if found is not None:
            return found
        answer = self._service.one("GET", key, _HEADERS)
        if answer is not None and self.checksums != "never" and not self._sound(answer.body, key):
            answer = self._service.one("GET", key, _HEADERS)
        if answer is None:
            return None
        if self._cache is not None:
            self._cache.put([(key, answer.body)])
        return answer.body

    def _sound(self, stored: bytes, key: bytes) -> bool:
        """Whether the bytes are a record of this store that fits its checksum."""
        try:
            return checksum(stored, key) == examine(stored, self.schema, key).checksum
        except StoreError:
            return False

    def __getitem__(self, key: str) -> Record:
        try:
            return super().__getitem__(key)
        except StoreDamaged as error:
            raise came_from(self.url, error) from None

    def get_batch(
        self, keys: Sequence[str], out: RecordBatch | None = None, *, dtype: str = "float32", boxes: str = "pixels",
        fields: Sequence[str] | None = None,
    ) -> RecordBatch:  # fmt: skip
        if self._gather is not None:
            return self._gather.batch(keys, out, dtype, boxes, fields, self.missing)
        records = plain_records(self._fetcher, keys, self.schema, self._verified, self.missing)
        return gather(keys, records, self.schema, out, dtype, boxes, fields)

    def row_counts(self, keys: Sequence[str]) -> Array:
        """As StoreReader.row_counts; headers alone travel."""
        names = checked_names(keys)
        unique, counts = list(dict.fromkeys(names)), dict[str, tuple[int, int]]()
        most = self._service.most_keys
        for first in range(0, len(unique), most):
            some = unique[first : first + most]
            fetched = self._posted.headers(some)
            for place, name in enumerate(some):
                if place in fetched.errors:
                    raise fetched.errors[place]
                if not fetched.addresses[place]:
                    raise self.missing(name)
                head = peek(fetched.stored(place)[:HEADER_SIZE], store_key(name))
                counts[name] = head.rows, head.count
        return np.array([counts[name] for name in names], np.int64).reshape(-1, 2)

    @property
    def gathering(self) -> RemoteGather | None:
        return self._gather

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order not in get_args(Order):
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        return (str(key) for key in self._service.pages("keys", {"order": order}))

    def failures(self) -> Iterator[Refusal]:
        for row in self._service.pages("failures", {}):
            try:
                yield Refusal(**row)
            except TypeError:
                raise self._service.strange("refusal") from None

    @property
    def parts(self) -> list[PartManifest]:
        if self._parts is None:
            rows = self._service.rows(self._service.json(f"{self._service.path}/parts"), "parts")
            self._parts = [PartManifest.read(json.dumps(row).encode(), f"a part of {self.url}") for row in rows]
        return list(self._parts)

    def missing(self, key: str) -> FeatxError:
        self._service.check_same()
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        error = super()._not_found(key)
        return KeyNotFound(error.message, error.hint.replace("featx inspect STORE", f"featx inspect {self.url}"))

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()
        self._fetcher.close()
        self._service.connections.close()

    def __reduce__(self) -> tuple[Callable[..., HttpStore], tuple[Any, ...]]:
        return _made, (type(self), self._arguments, self._options)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name} {f.dtype}{['N', *f.shape] if f.per == 'region' else list(f.shape)}" for f in self.schema.fields
        )
        return f"HttpStore({self.url!r}, {self.manifest.backend}, {len(self)} records: {fields})"


def _made(kind: type[HttpStore], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> HttpStore:
    return kind(*arguments, **options)
