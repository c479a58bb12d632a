"""Many records by one request each: asked for with POST, received into memory that is used again, or already kept."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from featx.codec import ALIGN, HEADER_SIZE, layout, store_key
from featx.errors import FeatxError, StoreDamaged
from featx.schema import Schema
from featx.store.remote.buffers import Buffers, Loan
from featx.store.remote.connection import Place
from featx.store.remote.fetched import Fetched
from featx.store.remote.framing import DAMAGED, MEDIA_TYPE, RECORD, places, read_told
from featx.store.remote.local import LocalCache
from featx.store.remote.retry import Deadline, Transient, persist
from featx.store.remote.service import Service

PORTION = 8 << 20  # bytes of records that are asked for at a time
_GUESS = 1 << 16  # bytes of a record, before the first has come


class Posted:
    """The records of a store, many at a time; a :class:`featx.store.remote.fetched.Source` is made of it."""

    def __init__(self, service: Service, schema: Schema, cache: LocalCache | None) -> None:
        self._service, self._schema, self._cache = service, schema, cache
        self._buffers = Buffers()
        self._mean = _GUESS

    def portion(self) -> int:
        """Records that make a portion."""
        rows = self._schema.rows
        size = self._mean if rows is None else layout(self._schema, rows)[1]
        return max(1, min(self._service.most_keys, PORTION // size))

    def fetch(self, names: Sequence[str], again: bool) -> Fetched:
        """The records of names, of which none comes twice; those that are kept are not asked for."""
        cache = self._cache
        if cache is None:
            return self.ask(names)
        keys = [store_key(name) for name in names]
        if again:  # what is kept, and damaged, is dropped by asking for it
            for key in keys:
                cache.get(key)
        kept = self._kept(cache, keys)
        rest = np.flatnonzero(kept.addresses == 0).tolist()
        if not rest:
            return kept
        came = self.ask([names[place] for place in rest])
        cache.put((keys[place], came.view(number)) for number, place in enumerate(rest) if came.addresses[number])
        kept.addresses[rest], kept.sizes[rest] = came.addresses, came.sizes
        errors = {rest[number]: error for number, error in came.errors.items()}
        return Fetched(kept.addresses, kept.sizes, errors, (kept.owner, came.owner))

    def headers(self, names: Sequence[str]) -> Fetched:
        """The first 48 bytes of each record, or more."""
        return self.ask(names, headers_only=True)

    def ask(self, names: Sequence[str], headers_only: bool = False) -> Fetched:
        """The records, from the server; in several requests where it takes fewer keys at a time."""
        if len(names) > self._service.most_keys:
            return self._in_turn(names, headers_only)
        asked = json.dumps({"keys": list(names), **({"only": "headers"} if headers_only else {})}).encode()

        def attempt(deadline: Deadline) -> Fetched | None:
            return self._attempt(deadline, asked, names, headers_only)

        found = persist(attempt, self._service.url, self._service.timeout)
        return self._in_turn(names, headers_only) if found is None else found

    def _attempt(self, deadline: Deadline, asked: bytes, names: Sequence[str], headers_only: bool) -> Fetched | None:
        """One try; None when it was too much for the server, which takes ``most_keys`` then."""
        loans: list[Loan] = []
        answer = self._service.connections.ask(
            deadline, "POST", f"{self._service.path}/records", body=asked, into=_lent(self._buffers, loans),
            headers={"Content-Type": "application/json", "Accept": MEDIA_TYPE},
        )  # fmt: skip
        if answer.status == 413 and len(names) > 1:
            self._service.learn(answer)
            self._service.most_keys = min(self._service.most_keys, -(-len(names) // 2))
            return None
        self._service.check(answer, (200,))
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != MEDIA_TYPE:
            raise Transient(f"the server sends {kind or 'nothing'} where records were asked for", once=True)
        if not loans:
            raise Transient("the answer is empty", once=True)
        fetched = self._taken(loans[0], answer.size, names)
        there = fetched.sizes > 0
        if not headers_only and there.any():
            self._mean = max(HEADER_SIZE, int(fetched.sizes[there].mean()))
        return fetched

    def _in_turn(self, names: Sequence[str], headers_only: bool) -> Fetched:
        most = max(1, self._service.most_keys)
        firsts = range(0, len(names), most)
        found = [self.ask(names[first : first + most], headers_only) for first in firsts]
        errors = {
            first + place: error
            for first, one in zip(firsts, found, strict=True)
            for place, error in one.errors.items()
        }
        addresses = np.concatenate([one.addresses for one in found])
        return Fetched(addresses, np.concatenate([one.sizes for one in found]), errors, found)

    def _taken(self, loan: Loan, size: int, names: Sequence[str]) -> Fetched:
        """What the frames of a body hold."""
        body = loan.buffer.view[:size]
        try:
            found = places(body, len(names))
            said = {number: read_told(body, place) for number, place in enumerate(found) if place.kind == DAMAGED}
        except StoreDamaged as error:
            raise Transient(error.message, once=True) from None
        errors: dict[int, FeatxError] = {
            number: StoreDamaged(
                f"record {names[number]!r} of {self._service.url} is damaged there: {told.message}",
                "run `featx verify` on the store where it lies; `featx verify --repair` makes a sound copy",
            )
            for number, told in said.items()
        }
        rows = np.array(found, np.int64).reshape(-1, 3)
        there = rows[:, 0] == RECORD
        addresses = np.where(there, rows[:, 1] + loan.buffer.address, 0)
        return Fetched(addresses, np.where(there, rows[:, 2], 0), errors, loan)

    def _kept(self, cache: LocalCache, keys: Sequence[bytes]) -> Fetched:
        """The records that the cache has, one behind the other in one buffer."""
        sizes = np.array(cache.find(keys), np.int64)
        rooms = sizes + -sizes % ALIGN
        starts, addresses = np.cumsum(rooms) - rooms, np.zeros(len(keys), np.int64)
        loan = Loan(self._buffers, int(rooms.sum()))
        for place in np.flatnonzero(sizes).tolist():
            start = int(starts[place])
            if cache.read(keys[place], loan.buffer.view[start : start + int(sizes[place])]):
                addresses[place] = loan.buffer.address + start
        return Fetched(addresses, np.where(addresses != 0, sizes, 0), {}, loan)


def _lent(buffers: Buffers, loans: list[Loan]) -> Place:
    def place(size: int) -> memoryview:
        loans.append(Loan(buffers, size))
        return loans[-1].buffer.view

    return place
