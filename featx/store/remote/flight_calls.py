"""Calls of a server of Arrow Flight: connections of one process, tries, and what errors of Flight mean."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.store.manifest import Manifest
from featx.store.remote.address import Address, read_address, scheme_of, token_from
from featx.store.remote.flight_faults import fault_of, flight_library, is_passing, said, understood
from featx.store.remote.flight_forks import guard
from featx.store.remote.retry import RATE, Deadline, Transient, persist

PLAIN = {"grpc": "http", "grpc+tls": "https"}
_OPTIONS = {
    "grpc.http2.max_frame_size": 1 << 20,  # bytes; 16 KiB unless one asks
    "grpc.initial_reconnect_backoff_ms": 100,  # how long gRPC fails at once, without trying, after a failure
    "grpc.max_reconnect_backoff_ms": 2000,
    "grpc.enable_http_proxy": 0,  # it would be asked of the environment, and see the token
}
_NONE_KNOWN = 256  # keys of one ticket, of a server that does not say how many it takes

T = TypeVar("T")


class FlightCalls:
    """One store of a server. A name that the URL leaves out is asked for.

    digest: that of the store that was opened, once it is known; another one in an answer is a StoreError.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        flight_library()
        self.timeout, self._token = timeout, token_from(token)
        self.digest: str | None = None
        self._address, self._client = _address(url), None
        guard.add(self)
        if not self._address.store:
            self._address = self._address.named(self._only_store())
        self.url, self.name = self._address.url, self._address.store
        self._most_keys: int | None = None

    _client: Any

    @property
    def most_keys(self) -> int:
        """How many keys the server takes at a time."""
        if self._most_keys is None:
            said = self.json("limits").get("keys")
            self._most_keys = said if type(said) is int and 0 < said < 1 << 31 else _NONE_KNOWN
        return self._most_keys

    def manifest(self) -> Manifest:
        """What the server has under the name now. Raises StoreDamaged for what is no manifest."""
        try:
            return Manifest.read(self.act("manifest"), f"the manifest of {self.url}")
        except StoreDamaged as error:
            raise StoreDamaged(
                error.message, "check that this is the URL of a store of `featx serve --flight`"
            ) from None

    def check_same(self) -> None:
        """Raise StoreError when the server has another store under the name by now."""
        if self.digest is not None:
            totals = self.manifest().totals
            if totals is None or totals.digest != self.digest:
                raise self._replaced(totals.digest if totals else "that of an unfinished one")

    def length(self) -> int:
        """How many records the store has by now."""
        descriptor = flight_library().FlightDescriptor.for_path(self.name)
        found = self.call(lambda client, options: client.get_flight_info(descriptor, options))
        return max(0, int(found.total_records))

    def act(self, action: str, **asked: Any) -> bytes:
        """The answer to an action."""
        body = json.dumps({"store": self.name, **asked}).encode()

        def attempt(client: Any, options: Any) -> bytes:
            asked_for = flight_library().Action(action, body)
            return b"".join(result.body.to_pybytes() for result in client.do_action(asked_for, options))

        return self.call(attempt)

    def json(self, action: str, **asked: Any) -> dict[str, Any]:
        """The JSON object that an action answers with."""
        try:
            return dict(json.loads(self.act(action, **asked)))
        except (ValueError, TypeError, RecursionError):
            raise self.strange("JSON object") from None

    def rows(self, action: str) -> list[Any]:
        """The whole list that an action gives, page by page where it does."""
        found: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            page = self.json(action, **after)
            rows = page.get(action)
            if not isinstance(rows, list):
                raise self.strange(f"list of {action}")
            found += rows
            if page.get("next") is None:
                return found
            if not rows or page["next"] == after.get("after"):
                raise self.strange(f"list of {action} with an end")
            after = {"after": page["next"], "limit": 10_000}

    def get(self, chosen: dict[str, Any], form: str, take: Callable[[Any], T], size: int = 0) -> T:
        """What ``take`` makes of the stream of batches for a ticket; tried again where it raises Transient.

        size: bytes that are about to come, for which there is more time.
        """
        flight = flight_library()
        ticket = flight.Ticket(json.dumps({"store": self.name, **chosen, "form": form}).encode())

        def attempt(client: Any, options: Any) -> T:
            stream = client.do_get(ticket, options)
            self._check_digest(stream.schema.metadata or {})
            return take(stream)

        return self.call(attempt, size)

    def call(self, attempt: Callable[[Any, Any], T], size: int = 0) -> T:
        """What ``attempt`` makes of a client and options; tried again while that may help."""
        flight = flight_library()
        headers = [(b"authorization", f"Bearer {self._token}".encode())] if self._token else []

        def tried(deadline: Deadline) -> T:
            options = flight.FlightCallOptions(timeout=deadline.left + size / RATE, headers=headers)
            with guard:
                try:
                    return attempt(self._opened(), options)
                except (flight.FlightError, *_arrow_errors()) as error:
                    raise self._understood(error) from None

        return persist(tried, self._address.url, self.timeout)

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def strange(self, what: str) -> StoreError:
        """The error for an answer that no server of featx gives."""
        return StoreError(
            f"{self._address.url} does not answer as a server of featx: no {what} came",
            "check the URL, and its version",
        )

    def _opened(self) -> Any:
        if self._client is None:
            host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
            options: dict[str, Any] = {"generic_options": list(_OPTIONS.items())}
            trusted = os.environ.get("SSL_CERT_FILE")
            if trusted and self._address.scheme == "grpc+tls":  # as Python's own ssl does
                options["tls_root_certs"] = _read(trusted)
            where = f"{self._address.scheme}://{host}:{self._address.port}"
            self._client = flight_library().FlightClient(where, **options)
        return self._client

    def _understood(self, error: Exception) -> Exception:
        """The error of featx, or Transient."""
        fault, url = fault_of(error), self._address.url
        if fault is not None and fault.code == "unauthenticated":
            return UsageError(
                f"{url} refuses the token" if self._token else f"{url} wants a token",
                "put that of the server into the environment as FEATX_TOKEN, or give open_store(..., token=...)",
            )
        if fault is not None and fault.code == "unknown_store":
            return StoreError(f"there is no store at {url}: {fault.message}", fault.hint)
        if not isinstance(error, flight_library().FlightError | NotImplementedError):  # bytes that are no batches
            return Transient(f"the answer is damaged: {said(error)}", once=True)
        return Transient(said(error)) if is_passing(error) else understood(error, url)

    def _check_digest(self, metadata: dict[bytes, bytes]) -> None:
        digest = metadata.get(b"featx.digest", b"").decode(errors="replace")
        if digest and self.digest and digest != self.digest:
            raise self._replaced(digest)

    def _replaced(self, digest: str) -> FeatxError:
        return StoreError(
            f"the store behind {self.url} was replaced: its digest was {self.digest}, it is {digest} now",
            "open it again, and go on with what is there, or have the old one served under another name",
        )

    def _only_store(self) -> str:
        infos: list[Any] = self.call(lambda client, options: list(client.list_flights(b"", options)))
        names = [str(info.descriptor.path[0], "utf-8", "replace") for info in infos if info.descriptor.path]
        if len(names) != 1:
            raise UsageError(
                f"{self._address.url} names no store, and the server has {', '.join(names) or 'none'}",
                "put the name of one behind it",
            )
        return names[0]


def _arrow_errors() -> Sequence[type[Exception]]:
    """The errors of Arrow that are none of Flight's: for bytes that are no batches, and calls that cannot be made."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"SSL_CERT_FILE is {path}, which cannot be read: {error.strerror}", "mend it") from None


def _address(url: str) -> Address:
    """The parts of a ``grpc://`` or ``grpc+tls://`` URL, which has the forms of an ``http://`` one, and a port."""
    scheme = scheme_of(url)
    plain = PLAIN[scheme]
    try:
        found = read_address(plain + url[len(scheme) :])
    except UsageError as error:
        message, hint = (text.replace(f"{plain}://", f"{scheme}://") for text in (error.message, error.hint))
        raise UsageError(message, hint.replace("http://", f"{scheme}://")) from None
    shown = scheme + found.url[len(plain) :]
    if found.prefix:
        raise UsageError(f"the URL {shown} goes on behind the name of a store", f"write {scheme}://HOST:PORT/NAME")
    return found._replace(scheme=scheme, url=shown)
