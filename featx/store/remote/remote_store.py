"""What the readers behind URLs have in common, whatever they speak: checks, batches, membership, and what they say."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, get_args

from featx.codec import checksum, examine, store_key
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.record import Record, RecordBatch
from featx.store.batch import gather
from featx.store.gather import gatherable
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest
from featx.store.native import reader
from featx.store.reader import Checksums, StoreReader
from featx.store.remote.fetched import Fetcher, Source
from featx.store.remote.gathered import RemoteGather, came_from, plain_records

FEW = 64  # keys that are asked for singly before all are listed


class Calls(Protocol):
    """The calls of one store of a server. digest: of the store that was opened, once it is known."""

    url: str
    digest: str | None

    def manifest(self) -> Manifest: ...

    def check_same(self) -> None:
        """Raise StoreError when the store behind the URL is another by now."""

    def strange(self, what: str) -> StoreError: ...


class RemoteStore(StoreReader):
    """A store behind a URL. Threads may share it; a pickle holds no more than the arguments.

    verified: whether records that arrive in batches are checked; single ones are unless ``checksums`` is "never".
    """

    url: str
    _calls: Calls
    _fetcher: Fetcher
    _verified: bool

    def __init__(self, url: str, partial: bool, checksums: Checksums, options: Mapping[str, Any]) -> None:
        if checksums not in get_args(Checksums):
            raise UsageError(f"checksums is {checksums!r}", f"choose one of {', '.join(get_args(Checksums))}")
        timeout = options["timeout"]
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise UsageError(f"timeout is {timeout!r}", "give seconds, more than 0")
        self._arguments, self._options = (url, partial, checksums), dict(options)
        self.partial, self.checksums = partial, checksums
        self._parts: list[PartManifest] | None = None
        self._looked_up = 0  # keys, singly
        self._known: frozenset[bytes] | None = None

    def _begin(self, calls: Calls) -> None:
        """Ask for the manifest. Raises StoreError for a store that is unfinished, unless ``partial`` allows that."""
        self._calls, self.url, self.manifest = calls, calls.url, calls.manifest()
        if not (self.manifest.complete or self.partial):
            raise StoreError(
                f"the store behind {self.url} is unfinished",
                "finish its extraction, or open it with partial=True to read what is there",
            )
        if self.manifest.totals is not None:
            calls.digest = self.manifest.totals.digest

    def _receive(self, source: Source, verified: bool) -> None:
        """Let batches come from ``source``."""
        self._fetcher, self._verified = Fetcher(source), verified
        native = reader().module and gatherable(self.schema)
        policy: Checksums = "always" if verified else "never"  # each arrival is new bytes
        self._gather = RemoteGather(self.schema, policy, self._fetcher) if native else None

    @abstractmethod
    def _one(self, key: bytes) -> bytes | None:
        """The stored bytes under a stored key, as they arrive."""

    @abstractmethod
    def _has(self, key: bytes) -> bool:
        """Whether there is a record under a stored key."""

    @abstractmethod
    def _rows(self, what: str) -> Iterable[Mapping[str, Any]]:
        """What the server lists: "parts" or "failures"."""

    def holds(self, key: bytes) -> bool:
        """As StoreReader. Who asks for many gets the list of all keys fetched once, where it cannot grow."""
        if self._known is None and self.manifest.complete:
            self._looked_up += 1
            if self._looked_up > FEW:
                self._known = frozenset(map(store_key, self.keys()))
        return self._has(key) if self._known is None else key in self._known

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find. What does not fit its checksum is asked for once more."""
        found = self._one(key)
        if found is not None and self.checksums != "never" and not self._sound(found, key):
            found = self._one(key)
        return found

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

    @property
    def gathering(self) -> RemoteGather | None:
        return self._gather

    def failures(self) -> Iterator[Refusal]:
        for row in self._rows("failures"):
            try:
                yield Refusal(**row)
            except TypeError:
                raise self._calls.strange("refusal") from None

    @property
    def parts(self) -> list[PartManifest]:
        if self._parts is None:
            where = f"a part of {self.url}"
            self._parts = [PartManifest.read(json.dumps(row).encode(), where) for row in self._rows("parts")]
        return list(self._parts)

    def missing(self, key: str) -> FeatxError:
        self._calls.check_same()
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        error = super()._not_found(key)
        return KeyNotFound(error.message, error.hint.replace("featx inspect STORE", f"featx inspect {self.url}"))

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        return _made, (type(self), self._arguments, self._options)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name} {f.dtype}{['N', *f.shape] if f.per == 'region' else list(f.shape)}" for f in self.schema.fields
        )
        return f"{type(self).__name__}({self.url!r}, {self.manifest.backend}, {len(self)} records: {fields})"


def _made(kind: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    return kind(*arguments, **options)
