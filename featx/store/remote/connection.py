"""The connections that one process keeps to one server: requests out, answers read where they are wanted.

Each thread has a connection to itself while it asks; a forked child has none of its parent's. Redirections are not
followed, proxies of the environment not asked: a token goes to the host of the URL alone.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from featx.errors import StoreError
from featx.store.remote.address import Address
from featx.store.remote.retry import STATUSES, Deadline, Transient

CONNECT, SILENT = 10.0, 30.0  # seconds that a connection, and the next byte of an answer, may take
PIECE = 1 << 20  # bytes that are allocated for bytes that have not come
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
        self._headers = {"User-Agent": "featx", "Accept-Encoding": "identity"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._reset()

    def _reset(self) -> None:
        self._free: list[http.client.HTTPConnection] = []
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

    def _take(self, deadline: Deadline) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was kept."""
        if self._pid != os.getpid():
            self._reset()
        while True:
            with self._lock:
                connection = self._free.pop() if self._free else None
            if connection is None:
                return self._made(deadline), False
            if connection.sock is not None and not _readable(connection.sock):
                return connection, True
            connection.close()  # the other side did, or says what nobody asked

    def _give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._free) < KEPT:
                self._free.append(connection)
                return
        connection.close()

    def _made(self, deadline: Deadline) -> http.client.HTTPConnection:
        where, timeout = self.address, max(0.01, min(CONNECT, deadline.left))
        if where.scheme == "https":
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                where.host, where.port, timeout=timeout, context=_trust()
            )
        else:
            made = http.client.HTTPConnection(where.host, where.port, timeout=timeout)
        try:
            made.connect()
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
        return made

    def _ask(
        self, connection: http.client.HTTPConnection, kept: bool, deadline: Deadline, method: str, path: str,
        body: bytes | None, into: Place | None, headers: Mapping[str, str],
    ) -> tuple[Answer, bool]:  # fmt: skip
        _patience(connection, deadline)
        try:
            with suppress(*_REFUSED):  # the answer may be there already: that so much is not taken
                connection.request(method, path, body, {**self._headers, **headers})
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, *_REFUSED) as error:
            raise Transient(f"the connection was closed: {_reason(error)}", stale=kept) from error
        except http.client.HTTPException as error:
            raise Transient(f"what answers does not speak HTTP ({error!r})", once=True) from error
        except OSError as error:
            raise Transient(f"no answer: {_reason(error)}") from error
        try:
            with response:
                return self._read(connection, response, deadline, into), not response.will_close
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"the answer was cut: {_reason(error)}") from error

    def _read(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: Deadline,
        into: Place | None,
    ) -> Answer:  # fmt: skip
        status, headers = response.status, {name.lower(): value for name, value in response.getheaders()}
        if status >= 400:
            body = _whole(response, deadline, _LONGEST_ERROR)
            if status in STATUSES:
                raise Transient(
                    f"the server answers {status}: {told(body).message or response.reason}",
                    wait=_asked_to_wait(headers),
                )
            return Answer(status, headers, body, len(body))
        if 300 <= status < 400 and status != 304:
            raise StoreError(
                f"{self.address.url} answers that it is elsewhere, at {headers.get('location', '?')[:200]}",
                "open that URL; redirections are not followed, because a token would go with them",
            )
        length = response.length
        if into is None or length is None or length == 0:
            body = _whole(response, deadline)
            if into is not None and body:
                into(len(body))[: len(body)] = body
            return Answer(status, headers, body if into is None else b"", len(body))
        deadline.allow(length)
        _receive(connection, response, into(length)[:length], deadline)
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


def _receive(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse, view: memoryview, deadline: Deadline
) -> None:
    """Fill ``view`` from the connection itself; nothing is copied but by the system."""
    source: Any = response.fp
    at = 0
    while at < len(view):
        got = source.readinto1(view[at:])
        if not got:
            raise Transient(f"the answer was cut: {at:,} of {len(view):,} bytes came")
        at += got
        if at < len(view) and deadline.left == 0:
            raise Transient(f"the answer is too slow: {at:,} of {len(view):,} bytes came in time")
    response.length = 0


def _whole(response: http.client.HTTPResponse, deadline: Deadline, limit: int | None = None) -> bytes:
    """The body, piece by piece: a length that lies gets no memory. Up to ``limit`` bytes of it."""
    if response.length is not None:
        deadline.allow(min(response.length, PIECE))
    expected, pieces, size = response.length, [], 0
    while limit is None or size < limit:
        piece = response.read(PIECE)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        deadline.allow(len(piece))
        if deadline.left == 0:
            raise Transient(f"the answer is too slow: {size:,} bytes came in time")
        if size == expected:
            break
    if limit is None and expected is not None and size < expected:
        raise Transient(f"the answer was cut: {size:,} of {expected:,} bytes came")
    return b"".join(pieces)


def _readable(sock: socket.socket) -> bool:
    """Whether something waits to be read on a connection on which nothing was asked: its end, as a rule."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def _patience(connection: http.client.HTTPConnection, deadline: Deadline) -> None:
    if deadline.left == 0:
        raise Transient("no time is left")
    if connection.sock is not None:
        connection.sock.settimeout(max(0.01, min(SILENT, deadline.left)))


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
