"""The routes of one store of a server, asked with patience: good answers come back, others become errors of featx."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.store.manifest import Manifest
from featx.store.remote.address import read_address, token_from
from featx.store.remote.connection import Answer, Connections, told
from featx.store.remote.retry import Deadline, persist

PAGE = 10_000  # rows of one answer
MAX_KEYS = "featx-max-keys"
DIGEST = "featx-digest"
_NONE_KNOWN = 256  # keys of one request, of a server that does not say how many it takes


class Service:
    """One store of a server. A name that the URL leaves out is asked for.

    digest: that of the store that was opened, once it is known; another one in any answer is a StoreError. most_keys:
    how many the server takes at a time.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        self.timeout, self._has_token = timeout, bool(token_from(token))
        self._address = read_address(url)
        self.connections = Connections(self._address, token_from(token))
        self.digest: str | None = None
        self.most_keys = _NONE_KNOWN
        if not self._address.store:
            self._address = self._address.named(self._only_store())
            self.connections.address = self._address
        self.url, self.name, self.path = self._address.url, self._address.store, self._address.path

    def manifest(self) -> Manifest:
        """What the server has under the name now. Raises StoreDamaged for what is no manifest."""
        answer = self.ask("GET", self.path, same=False)
        self.learn(answer)
        try:
            return Manifest.read(answer.body, f"the manifest of {self.url}")
        except StoreDamaged as error:
            raise StoreDamaged(error.message, "check that this is the URL of a store of `featx serve`") from None

    def learn(self, answer: Answer) -> None:
        """Note how many keys the server takes, if an answer says so."""
        most = answer.headers.get(MAX_KEYS, "")
        if most.isdigit() and 0 < int(most) < 1 << 31:
            self.most_keys = int(most)

    def check_same(self) -> None:
        """Raise StoreError when the server has another store under the name by now."""
        if self.digest is not None:
            totals = self.manifest().totals
            if totals is None or totals.digest != self.digest:
                raise self._replaced(totals.digest if totals else "that of an unfinished one")

    def stores(self) -> list[dict[str, Any]]:
        """What the server says of all its stores."""
        return [row for row in self.rows(self.json(self._address.listing, same=False), "stores") if "name" in row]

    def ask(
        self, method: str, path: str, *, good: Sequence[int] = (200,), same: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """The answer to a request, if its status is ``good``. Raises StoreError, UsageError for a token."""

        def attempt(deadline: Deadline) -> Answer:
            return self.check(self.connections.ask(deadline, method, path, headers=headers), good, same)

        return persist(attempt, self._address.url, self.timeout)

    def one(self, method: str, key: bytes, headers: Mapping[str, str] | None = None) -> Answer | None:
        """The answer about one record; None when there is none under this stored key."""
        path = f"{self.path}/records/{quote(key, safe='')}"
        answer = self.ask(method, path, good=(200, 404), headers=headers)
        if answer.status == 200:
            return answer
        if method == "HEAD":  # it says nothing, unless the digest of the store that was asked
            if DIGEST not in answer.headers:
                self.check_same()
        elif told(answer.body).code in ("", "no_such_store"):
            raise self._error(answer)
        return None

    def json(self, path: str, same: bool = True) -> dict[str, Any]:
        """The JSON object under a path."""
        body = self.ask("GET", path, same=same).body
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError, RecursionError):
            raise self.strange("JSON object") from None

    def pages(self, what: str, query: Mapping[str, str]) -> Iterator[Any]:
        """The rows of a list that comes in pages."""
        after: Any = None
        while True:
            asked = {**query, "limit": str(PAGE), **({} if after is None else {"after": str(after)})}
            page = self.json(f"{self.path}/{what}?{urlencode(asked)}")
            rows = self.rows(page, what)
            yield from rows
            before, after = after, page.get("next")
            if after is None:
                return
            if after == before or not rows:
                raise self.strange(f"list of {what} with an end")

    def rows(self, data: Mapping[str, Any], name: str) -> list[Any]:
        """The list in a JSON object."""
        found = data.get(name)
        if not isinstance(found, list):
            raise self.strange(f"list of {name}")
        return found

    def check(self, answer: Answer, good: Sequence[int], same: bool = True) -> Answer:
        """The answer. Raises what its status says, and StoreError when it comes from another store than was opened."""
        if answer.status not in good:
            raise self._error(answer)
        digest = answer.headers.get(DIGEST)
        if same and digest and self.digest and digest != self.digest:
            raise self._replaced(digest)
        return answer

    def strange(self, what: str) -> StoreError:
        """The error for an answer that no server of featx gives."""
        return StoreError(
            f"{self._address.url} does not answer as a server of featx: no {what} came",
            "check the URL, and its version",
        )

    def _only_store(self) -> str:
        names = [str(row["name"]) for row in self.stores()]
        if len(names) != 1:
            raise UsageError(
                f"{self._address.url} names no store, and the server has {', '.join(names) or 'none'}",
                "put the name of one behind it",
            )
        return names[0]

    def _replaced(self, digest: str) -> StoreError:
        return StoreError(
            f"the store behind {self.url} was replaced: its digest was {self.digest}, it is {digest} now",
            "open it again, and go on with what is there, or have the old one served under another name",
        )

    def _error(self, answer: Answer) -> FeatxError:
        problem, url, status = told(answer.body), self._address.url, answer.status
        if status in (401, 403):
            return UsageError(
                f"{url} refuses the token" if self._has_token else f"{url} wants a token",
                "put that of the server into the environment as FEATX_TOKEN, or give open_store(..., token=...)",
            )
        if status == 404:
            found = problem.message or "what answers there is no server of featx, or has no such store"
            return StoreError(f"there is no store at {url}: {found}", problem.hint or "check the URL")
        found = problem.message or "and says no more"
        return StoreError(f"{url} answers {status}: {found}", problem.hint or "look at the log of the server")
