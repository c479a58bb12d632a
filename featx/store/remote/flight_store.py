"""A store behind ``grpc://``, for reading: what :class:`featx.store.remote.http_store.HttpStore` is for ``http://``.

A batch is one stream of records, or one for each 16 MB of it; they are taken by the compiled reader where Arrow
received them. Whatever arrives is checked against its checksum here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from featx.codec import HEADER_SIZE, checksum, examine, layout, store_key
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array
from featx.store.batch import gather
from featx.store.gather import gatherable
from featx.store.ledger import Refusal
from featx.store.manifest import PartManifest
from featx.store.native import reader
from featx.store.reader import Checksums, Order, StoreReader
from featx.store.remote import flight_rows
from featx.store.remote.fetched import Fetched, Fetcher, Source, checked_names
from featx.store.remote.flight_calls import FlightCalls
from featx.store.remote.gathered import RemoteGather, came_from, plain_records

TIMEOUT = 60.0  # seconds
PORTION = 16 << 20  # bytes of records that are asked for at a time: one stream for most batches
FEW = 64  # keys that are asked for singly before all are listed
_GUESS = 1 << 16  # bytes of a record, before the first has come


class FlightStore(StoreReader):
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
        if checksums not in get_args(Checksums):
            raise UsageError(f"checksums is {checksums!r}", f"choose one of {', '.join(get_args(Checksums))}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise UsageError(f"timeout is {timeout!r}", "give seconds, more than 0")
        self._arguments: tuple[Any, ...] = (url, partial, checksums)
        self._options = {"token": token, "timeout": timeout}
        self.partial, self.checksums = partial, checksums
        self._calls = FlightCalls(url, token, TIMEOUT if timeout is None else float(timeout))
        self.url = self._calls.url
        self.manifest = self._calls.manifest()
        if not (self.manifest.complete or partial):
            raise StoreError(
                f"the store behind {self.url} is unfinished",
                "finish its extraction, or open it with partial=True to read what is there",
            )
        if self.manifest.totals is not None:
            self._calls.digest = self.manifest.totals.digest
        self._mean = _GUESS
        self._fetcher = Fetcher(Source(self._fetch, self._portion, self.url))
        native = reader().module and gatherable(self.schema)
        self._gather = RemoteGather(self.schema, checksums, self._fetcher) if native else None
        self._parts: list[PartManifest] | None = None
        self._looked_up = 0  # keys, singly
        self._known: frozenset[bytes] | None = None

    def __len__(self) -> int:
        return self._calls.length() if self.manifest.totals is None else self.manifest.totals.records

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
        found = self._counts([stored.decode()])
        return bool(found.there[0]) or 0 in found.errors

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find. What does not fit its checksum is asked for once more."""
        found = self._find(key)
        if found is not None and self.checksums != "never" and not self._sound(found, key):
            found = self._find(key)
        return found

    def _find(self, key: bytes) -> bytes | None:
        fetched = self._fetch([key.decode()], False)
        if 0 in fetched.errors:
            raise fetched.errors[0]
        return fetched.stored(0) if fetched.addresses[0] else None

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
        records = plain_records(self._fetcher, keys, self.schema, self.checksums != "never", self.missing)
        return gather(keys, records, self.schema, out, dtype, boxes, fields)

    def row_counts(self, keys: Sequence[str]) -> Array:
        """As StoreReader.row_counts; headers alone travel."""
        names, most = checked_names(keys), self._calls.most_keys
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
        return self._calls.get({"keys": asked}, "headers", lambda stream: flight_rows.counts(stream, asked, self.url))

    @property
    def gathering(self) -> RemoteGather | None:
        return self._gather

    def _portion(self) -> int:
        rows = self.schema.rows
        size = self._mean if rows is None else layout(self.schema, rows)[1]
        return max(1, min(self._calls.most_keys, PORTION // size))

    def _fetch(self, names: Sequence[str], again: bool) -> Fetched:
        asked = list(names)
        fetched = self._calls.get(
            {"keys": asked}, "views", lambda stream: flight_rows.records(stream, asked, self.url), PORTION
        )
        there = fetched.sizes > 0
        if there.any():
            self._mean = max(HEADER_SIZE, int(fetched.sizes[there].mean()))
        return fetched

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order not in get_args(Order):
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        columns = self._calls.get({"all": True, "order": order}, "keys", flight_rows.keys)
        return (key for column in columns for key in column.to_pylist())

    def failures(self) -> Iterator[Refusal]:
        for row in self._calls.rows("failures"):
            try:
                yield Refusal(**row)
            except TypeError:
                raise self._calls.strange("refusal") from None

    @property
    def parts(self) -> list[PartManifest]:
        if self._parts is None:
            rows = self._calls.rows("parts")
            self._parts = [PartManifest.read(json.dumps(row).encode(), f"a part of {self.url}") for row in rows]
        return list(self._parts)

    def missing(self, key: str) -> FeatxError:
        self._calls.check_same()
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        error = super()._not_found(key)
        return KeyNotFound(error.message, error.hint.replace("featx inspect STORE", f"featx inspect {self.url}"))

    def close(self) -> None:
        self._fetcher.close()
        self._calls.close()

    def __reduce__(self) -> tuple[Callable[..., FlightStore], tuple[Any, ...]]:
        return _made, (type(self), self._arguments, self._options)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name} {f.dtype}{['N', *f.shape] if f.per == 'region' else list(f.shape)}" for f in self.schema.fields
        )
        return f"FlightStore({self.url!r}, {self.manifest.backend}, {len(self)} records: {fields})"


def _made(kind: type[FlightStore], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> FlightStore:
    return kind(*arguments, **options)
