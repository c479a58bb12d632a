"""A store behind ``grpc://``, for reading: what :class:`featx.store.remote.http_store.HttpStore` is for ``http://``.

A batch is one stream of records, or one for each 16 MB of it; they are taken by the compiled reader where Arrow
received them. Whatever arrives is checked against its checksum here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from featx.codec import HEADER_SIZE, layout
from featx.errors import UsageError
from featx.schema import Array
from featx.store.reader import Checksums, Order
from featx.store.remote import flight_rows
from featx.store.remote.fetched import Fetched, Source, checked_names
from featx.store.remote.flight_calls import FlightCalls
from featx.store.remote.remote_store import RemoteStore

TIMEOUT = 60.0  # seconds
PORTION = 16 << 20  # bytes of records that are asked for at a time: one stream for most batches
_GUESS = 1 << 16  # bytes of a record, before the first has come


class FlightStore(RemoteStore):
    """Reads the store that a server of ``featx serve --flight`` has under ``grpc://HOST:PORT/NAME``.

    Opening asks for the manifest, and nothing else. Each process has a connection of its own, a forked child too, and a
    pickle holds no more than the arguments. Threads may share a store. url: ``grpc://`` or, where the server shows a
    certificate that the system trusts, ``grpc+tls://``; the name may be left out where there is one store. token,
    timeout: as of HttpStore.
    """

    def __init__(
        self, url: str, partial: bool = False, checksums: Checksums = "once", *, token: str | None = None,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(url, partial, checksums, {"token": token, "timeout": timeout})
        self._flight = FlightCalls(url, token, TIMEOUT if timeout is None else float(timeout))
        self._begin(self._flight)
        self._mean = _GUESS
        self._receive(Source(self._fetch, self._portion, self.url), checksums != "never")

    def __len__(self) -> int:
        return self._flight.length() if self.manifest.totals is None else self.manifest.totals.records

    def _one(self, key: bytes) -> bytes | None:
        fetched = self._fetch([key.decode()], False)
        if 0 in fetched.errors:
            raise fetched.errors[0]
        return fetched.stored(0) if fetched.addresses[0] else None

    def _has(self, key: bytes) -> bool:
        found = self._counts([key.decode()])
        return bool(found.there[0]) or 0 in found.errors

    def _rows(self, what: str) -> Iterable[Mapping[str, Any]]:
        return self._flight.rows(what)

    def row_counts(self, keys: Sequence[str]) -> Array:
        """As StoreReader.row_counts; headers alone travel."""
        names, most = checked_names(keys), self._flight.most_keys
        found = np.empty((len(names), 2), np.int64)
        for first in range(0, len(names), most):
            some = names[first : first + most]
            counts = self._counts(some)
            if not counts.there.all():
                place = int(np.argmin(counts.there))
                raise counts.errors.get(place) or self.missing(some[place])
            found[first : first + most] = counts.rows
        return found

    def _counts(self, names: Sequence[str]) -> flight_rows.Counts:
        asked = list(names)
        return self._flight.get({"keys": asked}, "headers", lambda stream: flight_rows.counts(stream, asked, self.url))

    def _portion(self) -> int:
        rows = self.schema.rows
        size = self._mean if rows is None else layout(self.schema, rows)[1]
        return max(1, min(self._flight.most_keys, PORTION // size))

    def _fetch(self, names: Sequence[str], again: bool) -> Fetched:
        asked = list(names)
        fetched = self._flight.get(
            {"keys": asked}, "views", lambda stream: flight_rows.records(stream, asked, self.url), PORTION
        )
        there = fetched.sizes > 0
        if there.any():
            self._mean = max(HEADER_SIZE, int(fetched.sizes[there].mean()))
        return fetched

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order not in get_args(Order):
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        columns = self._flight.get({"all": True, "order": order}, "keys", flight_rows.keys)
        return (key for column in columns for key in column.to_pylist())

    def close(self) -> None:
        self._fetcher.close()
        self._flight.close()
