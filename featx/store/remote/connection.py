"""The connections that one process keeps to one server: requests out, answers read where they are wanted.

Each thread has a connection to itself while it asks; a forked child has none of its parent's. Redirections are not
followed, proxies of the environment not asked: a token goes to the host of the URL alone.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from featx.errors import StoreError
from featx.store.remote.address import PORTS, Address
from featx.store.remote.retry import STATUSES, Deadline, Transient
from featx.store.remote.wire import Garbled, Head, Wire

CONNECT = 10.0  # seconds that a connection may take
_FRESH = 1.0  # seconds
KEPT = 8  # connections that wait to be used again
_LONGEST_ERROR = 1 << 16
_REFUSED = (ConnectionRefusedError, ConnectionAbortedError, ConnectionResetError, BrokenPipeError)

Place = Callable[[int], memoryview]  # where a body of so many bytes goes


class Answer(NamedTuple):
    """headers: by name in small letters. body: its bytes; empty where they went to the place that was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int


class Connections:
    """Connections to the host of an address, made when none is free."""

    def __init__(self, address: Address, token: str | None) -> None:
        self.address = address
        host = f"[{address.host}]" if ":" in address.host else address.host
        port = "" if address.port == PORTS[address.scheme] else f":{address.port}"
        self._headers = f"Host: {host}{port}\r\nUser-Agent: featx\r\nAccept-Encoding: identity\r\n"
        if token:
            self._headers += f"Authorization: Bearer {token}\r\n"
        self._reset()

    def _reset(self) -> None:
        self._free: list[Wire] = []
        self._lock, self._pid = threading.Lock(), os.getpid()

    def ask(
        self, deadline: Deadline, method: str, path: str, *, body: bytes | None = None, into: Place | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """One try of a request. ``into`` is asked where the body of a good answer of known length goes.

        Raises Transient for what another try may not meet, StoreError for what stays.
        """
        connection, kept = self._take(deadline)
        try:
            answer, keep = self._ask(connection, kept, deadline, method, path, body, into, headers or {})
        except BaseException:
            connection.close()
            raise
        if keep:
            self._give(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close what is not in use."""
        if self._pid != os.getpid():
            return self._reset()
        with self._lock:
            waiting, self._free = self._free, []
        for connection in waiting:
            connection.close()
        return None

    def __del__(self) -> None:
        for connection in getattr(self, "_free", ()):
            connection.close()

    def _take(self, deadline: Deadline) -> tuple[Wire, bool]:
        """A connection, and whether it was kept."""
        if self._pid != os.getpid():
            self._reset()
        while True:
            with self._lock:
                connection = self._free.pop() if self._free else None
            if connection is None:
                return self._made(deadline), False
            if not _readable(connection):
                return connection, True
            connection.close()  # the other side did, or says what nobody asked

    def _give(self, connection: Wire) -> None:
        with self._lock:
            if len(self._free) < KEPT:
                self._free.append(connection)
                return
        connection.close()

    def _made(self, deadline: Deadline) -> Wire:
        where, timeout = self.address, max(0.01, min(CONNECT, deadline.left))
        try:
            made = socket.create_connection((where.host, where.port), timeout)
            try:
                return Wire(_trust().wrap_socket(made, server_hostname=where.host) if where.scheme == "https" else made)
            except BaseException:
                made.close()
                raise
        except ssl.SSLError as error:
            raise StoreError(
                f"{where.url}: no secure connection to {where.host}: {error}",
                "check scheme and port; a certificate of your own is trusted through SSL_CERT_FILE",
            ) from None
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise Transient(f"the host {where.host} cannot be looked up: {error.strerror}") from error
            raise StoreError(f"{where.url}: there is no host {where.host}: {error.strerror}", "check the URL") from None
        except (OSError, UnicodeError) as error:
            raise Transient(f"no connection to {where.host}:{where.port}: {_reason(error)}") from error

    def _ask(
        self, connection: Wire, kept: bool, deadline: Deadline, method: str, path: str, body: bytes | None,
        into: Place | None, headers: Mapping[str, str],
    ) -> tuple[Answer, bool]:  # fmt: skip
        asked = f"{method} {path} HTTP/1.1\r\n{self._headers}" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        try:
            with suppress(*_REFUSED):  # the answer may be there already: that so much is not taken
                connection.send(asked, body, deadline)
            head = connection.head(deadline, bodiless=method == "HEAD")
        except _REFUSED as error:
            raise Transient(f"the connection was closed: {_reason(error)}", stale=kept) from error
        except Garbled as error:
            raise Transient(f"what answers does not speak HTTP: {error}", once=True) from error
        except OSError as error:
            raise Transient(f"no answer: {_reason(error)}") from error
        try:
            return self._read(connection, head, deadline, into), head.keep and not connection.closed
        except Garbled as error:
            raise Transient(f"the answer is no HTTP: {error}", once=True) from error
        except OSError as error:
            raise Transient(f"the answer was cut: {_reason(error)}") from error

    def _read(self, connection: Wire, head: Head, deadline: Deadline, into: Place | None) -> Answer:
        status, headers, length = head.status, head.headers, head.length
        if status >= 400:
            body = connection.body(head, deadline, _LONGEST_ERROR)
            if length is None or length < 0 or length > len(body):
                connection.close()  # the rest of it would be taken for the next answer
            if status in STATUSES:
                said = told(body).message or head.reason
                raise Transient(f"the server answers {status}: {said}", wait=_asked_to_wait(headers))
            if status == 500 and not told(body).code:  # nor is it of featx: a proxy, whose server died as it answered
                raise Transient(f"what is before the server answers 500: {head.reason}", once=True)
            return Answer(status, headers, body, len(body))
        if 300 <= status < 400 and status != 304:
            raise StoreError(
                f"{self.address.url} answers that it is elsewhere, at {headers.get('location', '?')[:200]}",
                "open that URL; redirections are not followed, because a token would go with them",
            )
        if into is None or length is None or length <= 0:
            body = connection.body(head, deadline)
            if into is not None and body:
                into(len(body))[: len(body)] = body
            return Answer(status, headers, body if into is None else b"", len(body))
        deadline.allow(length)
        connection.into(into(length)[:length], deadline)
        return Answer(status, headers, b"", length)


class Problem(NamedTuple):
    """What a server says of an error."""

    code: str
    message: str
    hint: str


def told(body: bytes) -> Problem:
    """The error in the body of an answer; empty where it has none that is readable."""
    try:
        error = json.loads(body)["error"]
        code, message, hint = (str(error.get(name) or "")[:10_000] for name in ("code", "message", "hint"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Problem("", "", "")
    return Problem(code, message, hint)


def _readable(connection: Wire) -> bool:
    """Whether something waits to be read on a connection on which nothing was asked: its end, as a rule.

    One that was used a moment ago is not looked at: should it have ended, the next request is made again at once.
    """
    if connection.idle < _FRESH:
        return bool(connection.left)
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(connection.left or poll.poll(0))
    except (OSError, ValueError):
        return True


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After; None where it is absent or a date, which needs clocks that agree."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdigit() and len(text) < 9 else None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
