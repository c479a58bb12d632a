"""A store behind a URL, for reading: what :class:`featx.store.folder.FolderStore` is for a folder.

Single records are a GET each; batches are one POST for as many records as make a few megabytes, received where the
compiled reader takes them. Whatever arrives is checked against its checksum here, as it is when it comes from a disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from featx.codec import HEADER_SIZE, peek, store_key
from featx.errors import UsageError
from featx.schema import Array
from featx.store.reader import Checksums, Order
from featx.store.remote.fetched import Source, checked_names
from featx.store.remote.local import LocalCache
from featx.store.remote.posted import Posted
from featx.store.remote.remote_store import RemoteStore
from featx.store.remote.room import cache_folder, read_limit
from featx.store.remote.service import Service

TIMEOUT, OPENING = 60.0, 10.0  # seconds; a server that was never there is waited for less long
_HEADERS = {"Accept": "application/vnd.featx.record"}


class HttpStore(RemoteStore):
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
        options = {"token": token, "cache": cache, "cache_limit": cache_limit, "timeout": timeout}
        super().__init__(url, partial, checksums, options)
        limit = read_limit(cache_limit)
        self._service = Service(url, token, OPENING if timeout is None else float(timeout))
        self._begin(self._service)
        self._service.timeout = TIMEOUT if timeout is None else float(timeout)
        self._cache: LocalCache | None = None
        if self.manifest.totals is not None and cache:
            self._cache = LocalCache(cache_folder(cache), self.manifest.totals.digest, limit)
        self._posted = Posted(self._service, self.schema, self._cache)
        source = Source(self._posted.fetch, self._posted.portion, self.url)
        self._receive(source, checksums != "never" or self._cache is not None)

    def __len__(self) -> int:
        if self.manifest.totals is not None:
            return self.manifest.totals.records
        rows = (row for row in self._service.stores() if row["name"] == self._service.name)
        return next((int(row["records"]) for row in rows), 0)

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find, from the cache where it is there."""
        found = None if self._cache is None else self._cache.get(key)
        if found is None:
            found = super().find(key)
            if found is not None and self._cache is not None:
                self._cache.put([(key, found)])
        return found

    def _one(self, key: bytes) -> bytes | None:
        answer = self._service.one("GET", key, _HEADERS)
        return None if answer is None else answer.body

    def _has(self, key: bytes) -> bool:
        return self._service.one("HEAD", key) is not None

    def _rows(self, what: str) -> Iterable[Mapping[str, Any]]:
        if what == "failures":
            return self._service.pages("failures", {})
        return self._service.rows(self._service.json(f"{self._service.path}/{what}"), what)

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

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order not in get_args(Order):
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        return (str(key) for key in self._service.pages("keys", {"order": order}))

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()
        self._fetcher.close()
        self._service.connections.close()
