"""A store behind a URL, for reading: what :class:`featx.store.folder.FolderStore` is for a folder.

Single records are a GET each; batches are one POST for as many records as make a few megabytes, received where the
compiled reader takes them. Whatever arrives is checked against its checksum here, as it is when it comes from a disk.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args
from urllib.parse import quote, urlencode

import numpy as np

from featx.codec import HEADER_SIZE, checksum, examine, layout, peek, store_key
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.record import RecordBatch
from featx.schema import Array
from featx.store.batch import gather
from featx.store.gather import gatherable
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest
from featx.store.native import reader
from featx.store.reader import Checksums, Order, StoreReader
from featx.store.remote.address import read_address, token_from
from featx.store.remote.buffers import Buffers, Loan
from featx.store.remote.connection import Answer, Connections, Place, told
from featx.store.remote.fetched import Fetched, Fetcher, RemoteGather, Source, checked_names, plain_records
from featx.store.remote.framing import DAMAGED, MEDIA_TYPE, RECORD, places, read_told
from featx.store.remote.retry import Deadline, Transient, persist

TIMEOUT = 60.0  # seconds
PORTION = 4 << 20  # bytes of records that are asked for at a time
FEW = 64  # keys that are asked for singly before all are listed
PAGE = 10_000  # keys of one answer
_ONE = "application/vnd.featx.record"


class HttpStore(StoreReader):
    """Reads the store that a server of ``featx serve`` has under a URL.

    Opening asks for the manifest, and nothing else. Each process has connections of its own: a forked child opens its
    own on first use, and a pickle holds no more than the arguments. Threads may share a store.

    url: see :func:`featx.store.remote.address.read_address`. token: of a server that wants one; by default that of the
    environment, FEATX_TOKEN. timeout: seconds that an answer may take, waits and further tries among them, and a second
    more for each 256 KiB of it. What was tried again without success is a StoreError that names the URL.
    """

    def __init__(
        self, url: str, partial: bool = False, checksums: Checksums = "once", *, token: str | None = None,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        if checksums not in get_args(Checksums):
            raise UsageError(f"checksums is {checksums!r}", f"choose one of {', '.join(get_args(Checksums))}")
        if timeout is not None and not timeout > 0:
            raise UsageError(f"timeout is {timeout!r}", "give seconds, more than 0")
        self._arguments = (url, partial, checksums, token, timeout)
        self.partial, self.checksums, self._timeout = partial, checksums, TIMEOUT if timeout is None else float(timeout)
        self._address = read_address(url)
        self._connections = Connections(self._address, token_from(token))
        if not self._address.store:
            self._address = self._address.named(self._only_store())
        self.url = self._address.url
        self._most_keys = 256
        self._parts: list[PartManifest] | None = None
        self._mean = 1 << 16  # bytes of a record, where they differ
        self._looked_up, self._known = 0, None  # keys that were asked for singly; all, as they are stored
        self._lock = threading.Lock()
        self.manifest = self._opened()
        totals = self.manifest.totals
        self._digest = totals.digest if totals else None
        self._buffers = Buffers()
        self._fetcher = Fetcher(Source(self._fetch, self._portion, self.url))
        native = reader().module and gatherable(self.schema)
        self._gather = RemoteGather(self.schema, checksums, self._fetcher) if native else None

    _known: frozenset[bytes] | None

    def _only_store(self) -> str:
        """The name of the one store of a server."""
        listed = self._json(self._address.listing, same=False)
        names = [str(one["name"]) for one in _items(listed, "stores", self._address.url)]
        if len(names) != 1:
            raise UsageError(
                f"{self._address.url} names no store, and the server has {', '.join(names) or 'none'}",
                "put the name of one behind it",
            )
        return names[0]

    def _opened(self) -> Manifest:
        answer = self._get(self._address.path, same=False)
        most = answer.headers.get("featx-max-keys", "")
        if most.isdigit() and 0 < int(most) < 1 << 31:
            self._most_keys = int(most)
        try:
            manifest = Manifest.read(answer.body, f"the manifest of {self.url}")
        except StoreDamaged as error:
            raise StoreDamaged(error.message, "check that this is the URL of a store of `featx serve`") from None
        if not (manifest.complete or self.partial):
            raise StoreError(
                f"the store behind {self.url} is unfinished",
                "finish its extraction, or open it with partial=True to read what is there",
            )
        return manifest

    def __len__(self) -> int:
        if self.manifest.totals is not None:
            return self.manifest.totals.records
        listed = _items(self._json(self._address.listing), "stores", self.url)
        return next((int(one["records"]) for one in listed if one.get("name") == self._address.store), 0)

    def __contains__(self, key: object) -> bool:
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
        answer = self._ask("HEAD", self._of_key(stored), good=(200, 404))
        return answer.status == 200

    def find(self, key: bytes) -> bytes | None:
        """As StoreReader.find. What does not fit its checksum is asked for once more."""
        found = self._find(key)
        if found is not None and self.checksums != "never" and not _whole(found, self, key):
            found = self._find(key)
        return found

    def _find(self, key: bytes) -> bytes | None:
        answer = self._ask("GET", self._of_key(key), good=(200, 404), headers={"Accept": _ONE})
        if answer.status == 404:
            problem = told(answer.body)
            if problem.code == "no_such_store" or not problem.code:
                raise self._error(answer)
            return None
        return answer.body

    def _of_key(self, key: bytes) -> str:
        return f"{self._address.path}/records/{quote(key, safe='')}"

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
        names = checked_names(keys)
        unique = {name: place for place, name in enumerate(dict.fromkeys(names))}
        asked, counts = list(unique), np.empty((len(unique), 2), np.int64)
        for first in range(0, len(asked), self._most_keys):
            some = asked[first : first + self._most_keys]
            fetched = self._post(some, headers_only=True)
            for place, name in enumerate(some):
                if place in fetched.errors:
                    raise fetched.errors[place]
                if not fetched.addresses[place]:
                    raise self.missing(name)
                head = peek(fetched.stored(place)[:HEADER_SIZE], store_key(name))
                counts[first + place] = head.rows, head.count
        return counts[[unique[name] for name in names]]

    @property
    def gathering(self) -> RemoteGather | None:
        return self._gather

    def _portion(self) -> int:
        rows = self.schema.rows
        size = self._mean if rows is None else layout(self.schema, rows)[1]
        return max(1, min(self._most_keys, PORTION // size))

    def _fetch(self, names: Sequence[str], again: bool) -> Fetched:
        return self._post(names)

    def _post(self, names: Sequence[str], headers_only: bool = False) -> Fetched:
        """The records of ``names``, or their headers. A server that takes fewer keys gets fewer."""
        if len(names) > self._most_keys:
            return self._halved(names, headers_only)
        asked = json.dumps({"keys": list(names), **({"only": "headers"} if headers_only else {})}).encode()
        path = f"{self._address.path}/records"

        def attempt(deadline: Deadline) -> Fetched | None:
            loans: list[Loan] = []
            headers = {"Content-Type": "application/json", "Accept": MEDIA_TYPE}
            answer = self._connections.ask(
                deadline, "POST", path, body=asked, into=_lent(self._buffers, loans), headers=headers
            )
            if answer.status == 413 and len(names) > 1:
                said = answer.headers.get("featx-max-keys", "")
                self._most_keys = min(len(names) // 2, int(said) if said.isdigit() and int(said) else len(names))
                return None
            self._check(answer, (200,), same=True)
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != MEDIA_TYPE or not loans:
                raise Transient(f"the server sends {kind or 'nothing'} where records were asked for", once=True)
            return self._taken(loans[0], answer.size, names, headers_only)

        found = persist(attempt, self.url, self._timeout)
        return self._halved(names, headers_only) if found is None else found

    def _halved(self, names: Sequence[str], headers_only: bool) -> Fetched:
        most = max(1, self._most_keys)
        found = [self._post(names[first : first + most], headers_only) for first in range(0, len(names), most)]
        errors = {
            place + number * most: error for number, one in enumerate(found) for place, error in one.errors.items()
        }
        addresses, sizes = (np.concatenate([one[column] for one in found]) for column in range(2))
        return Fetched(addresses, sizes, errors, found)

    def _taken(self, loan: Loan, size: int, names: Sequence[str], headers_only: bool) -> Fetched:
        """What the frames of a body hold."""
        body = loan.buffer.view[:size]
        try:
            found = places(body, len(names))
        except StoreDamaged as error:
            raise Transient(error.message, once=True) from None
        errors: dict[int, FeatxError] = {}
        for number, place in enumerate(found):
            if place.kind == DAMAGED:
                told_of = read_told(body, place)
                errors[number] = StoreDamaged(
                    f"record {names[number]!r} of {self.url} is damaged there: {told_of.message}",
                    "run `featx verify` on the store where it lies; `featx verify --repair` makes a sound copy",
                )
        rows = np.array(found, np.int64).reshape(-1, 3)
        there = rows[:, 0] == RECORD
        if not headers_only and there.any():
            self._mean = max(HEADER_SIZE, int(rows[there, 2].mean()))
        addresses = np.where(there, rows[:, 1] + loan.buffer.address, 0)
        return Fetched(addresses, np.where(there, rows[:, 2], 0), errors, loan)

    def keys(self, order: Order = "key") -> Iterator[str]:
        if order not in get_args(Order):
            raise UsageError(f"there is no order {order!r}", "ask for 'key' or 'source'")
        return (str(key) for key in self._pages("keys", {"order": order}))

    def failures(self) -> Iterator[Refusal]:
        for row in self._pages("failures", {}):
            try:
                yield Refusal(**row)
            except TypeError:
                raise _strange(self.url, "a refusal") from None

    def _pages(self, what: str, query: Mapping[str, str]) -> Iterator[Any]:
        after: Any = None
        while True:
            asked = {**query, "limit": str(PAGE), **({} if after is None else {"after": str(after)})}
            page = self._json(f"{self._address.path}/{what}?{urlencode(asked)}")
            rows = _items(page, what, self.url)
            yield from rows
            before, after = after, page.get("next")
            if after is None:
                return
            if after == before or not rows:
                raise _strange(self.url, f"the list of {what}: it has no end")

    @property
    def parts(self) -> list[PartManifest]:
        if self._parts is None:
            rows = _items(self._json(f"{self._address.path}/parts"), "parts", self.url)
            self._parts = [PartManifest.read(json.dumps(row).encode(), f"a part of {self.url}") for row in rows]
        return list(self._parts)

    def missing(self, key: str) -> FeatxError:
        self._check_same()
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        error = super()._not_found(key)
        return KeyNotFound(error.message, error.hint.replace("featx inspect STORE", f"featx inspect {self.url}"))

    def _check_same(self) -> None:
        """Raise StoreError when the server has another store under the URL by now."""
        if self._digest is not None:
            now = Manifest.read(self._get(self._address.path, same=False).body, f"the manifest of {self.url}").totals
            if now is None or now.digest != self._digest:
                raise self._replaced(now.digest if now else "that of an unfinished one")

    def _replaced(self, digest: str) -> StoreError:
        return StoreError(
            f"the store behind {self.url} was replaced: its digest was {self._digest}, it is {digest} now",
            "open it again, and go on with what is there, or have the old one served under another name",
        )

    def _json(self, path: str, same: bool = True) -> dict[str, Any]:
        body = self._get(path, same=same).body
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError, RecursionError):
            raise _strange(self._address.url, "a JSON object") from None

    def _get(self, path: str, *, same: bool = True) -> Answer:
        return self._ask("GET", path, same=same)

    def _ask(
        self, method: str, path: str, *, good: Sequence[int] = (200,), same: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        def attempt(deadline: Deadline) -> Answer:
            return self._check(self._connections.ask(deadline, method, path, headers=headers), good, same)

        return persist(attempt, self._address.url, self._timeout)

    def _check(self, answer: Answer, good: Sequence[int], same: bool) -> Answer:
        """The answer. Raises what its status says, and StoreError when it comes from another store than was opened."""
        if answer.status not in good:
            raise self._error(answer)
        digest = answer.headers.get("featx-digest")
        if same and digest and self._digest and digest != self._digest:
            raise self._replaced(digest)
        return answer

    def _error(self, answer: Answer) -> FeatxError:
        problem, url, status = told(answer.body), self._address.url, answer.status
        if status in (401, 403):
            return UsageError(
                f"{url} refuses the token" if self._arguments[3] or token_from(None) else f"{url} wants a token",
                "put that of the server into the environment as FEATX_TOKEN, or give open_store(..., token=...)",
            )
        if status == 404:
            found = problem.message or "what answers there is no server of featx, or has no such store"
            return StoreError(f"there is no store at {url}: {found}", problem.hint or "check the URL")
        found = problem.message or "and says no more"
        return StoreError(f"{url} answers {status}: {found}", problem.hint or "look at the log of the server")

    def close(self) -> None:
        self._fetcher.close()
        self._connections.close()

    def __reduce__(self) -> tuple[Callable[..., HttpStore], tuple[Any, ...]]:
        return _again, (type(self), *self._arguments)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name} {f.dtype}{['N', *f.shape] if f.per == 'region' else list(f.shape)}" for f in self.schema.fields
        )
        return f"HttpStore({self.url!r}, {self.manifest.backend}, {len(self)} records: {fields})"


def _again(kind: type[HttpStore], *arguments: Any) -> HttpStore:
    url, partial, checksums, token, timeout = arguments
    return kind(url, partial, checksums, token=token, timeout=timeout)


def _lent(buffers: Buffers, loans: list[Loan]) -> Place:
    def place(size: int) -> memoryview:
        loans.append(Loan(buffers, size))
        return loans[-1].buffer.view

    return place


def _whole(stored: bytes, store: StoreReader, key: bytes) -> bool:
    """Whether the bytes are a record that fits its checksum."""
    try:
        return checksum(stored, key) == examine(stored, store.schema, key).checksum
    except StoreError:
        return False


def _items(data: Mapping[str, Any], name: str, url: str) -> list[Any]:
    found = data.get(name)
    if not isinstance(found, list):
        raise _strange(url, f"a list of {name}")
    return found


def _strange(url: str, what: str) -> StoreError:
    return StoreError(f"{url} does not answer as a server of featx: no {what} came", "check the URL, and its version")
