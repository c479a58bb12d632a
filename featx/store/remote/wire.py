"""HTTP/1.1 on one connection, as much of it as reading stores takes: a request out, the head of the answer, its body.

A request for a batch costs a tenth of a millisecond less than with ``http.client``, and a body goes from the system to
where it is wanted in one call. What is no HTTP is refused; nothing is allocated for a length that is only claimed.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from featx.store.remote.retry import Deadline, Transient

PIECE = 1 << 20  # bytes that are allocated for bytes that have not come
LONGEST_HEAD = 1 << 16  # bytes
SILENT = 30.0  # seconds that the next byte of an answer may take
_STATUS = re.compile(r"HTTP/1\.(\d) (\d{3})(?: (.*))?")
_WHOLE = getattr(socket, "MSG_WAITALL", 0)


class Garbled(Exception):
    """What came is no HTTP."""


class Head(NamedTuple):
    """headers: by name in small letters. length: of the body; None: in chunks, -1: to the end of the connection.

    keep: whether another request may follow.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    length: int | None
    keep: bool


class Wire:
    """A connection on which one request is under way at a time. Raises OSError, Garbled, and Transient out of time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._came = bytearray()  # that was not asked for yet
        self._plain = not isinstance(sock, ssl.SSLSocket) and bool(_WHOLE)
        self._seconds = 0.0  # that the system waits
        self._used, self.closed = time.monotonic(), False
        if self._plain:
            sock.settimeout(None)

    @property
    def idle(self) -> float:
        """Seconds since it was used."""
        return time.monotonic() - self._used

    def fileno(self) -> int:
        """Of the connection, to see whether anything comes on it."""
        return self._sock.fileno()

    @property
    def left(self) -> int:
        """Bytes that came and were not asked for."""
        return len(self._came)

    def send(self, head: str, body: bytes | None, deadline: Deadline) -> None:
        """Send a request: its first line and headers, without the empty line behind them."""
        self._patience(deadline)
        self._used = time.monotonic()
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        try:
            self._sock.sendall(f"{head}{length}\r\n".encode("latin-1") + (body or b""))
        except BlockingIOError:
            raise TimeoutError from None

    def head(self, deadline: Deadline, *, bodiless: bool = False) -> Head:
        """The head of the answer. ``bodiless``: no body follows, whatever it says."""
        while True:
            found = _head(self._until(b"\r\n\r\n", LONGEST_HEAD, deadline), bodiless)
            if found.status >= 200:
                return found

    def into(self, view: memoryview, deadline: Deadline) -> None:
        """Fill ``view`` with the body, or the next part of it."""
        at = min(len(view), len(self._came))
        view[:at] = self._came[:at]
        del self._came[:at]
        if at < len(view):
            self._patience(deadline)
        while at < len(view):
            try:
                got = self._sock.recv_into(view[at:], 0, _WHOLE if self._plain else 0)
            except BlockingIOError:
                raise TimeoutError from None
            if not got:
                raise Transient(f"the answer was cut: {at:,} of {len(view):,} bytes came")
            at += got
            if at < len(view) and deadline.left == 0:
                raise Transient(f"the answer is too slow: {at:,} of {len(view):,} bytes came in time")

    def body(self, head: Head, deadline: Deadline, limit: int | None = None) -> bytes:
        """The body, or the first ``limit`` bytes of it and a little more."""
        pieces, size = [], 0
        for piece in self._pieces(head.length, deadline):
            pieces.append(piece)
            size += len(piece)
            deadline.allow(len(piece))
            if limit is not None and size >= limit:
                break
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._sock.close()

    def _pieces(self, length: int | None, deadline: Deadline) -> Iterator[bytes]:
        if length == -1:
            with suppress(EOFError):
                while True:
                    yield self._some(deadline)
        elif length is not None:
            yield from self._exactly(length, deadline)
        else:
            while size := self._chunk(deadline):
                yield from self._exactly(size, deadline)
                if self._take(2, deadline) != b"\r\n":
                    raise Garbled("a chunk does not end where it should")
            while self._until(b"\r\n", LONGEST_HEAD, deadline) != b"\r\n":
                pass

    def _chunk(self, deadline: Deadline) -> int:
        line = self._until(b"\r\n", 1024, deadline).split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", line):
            raise Garbled("the length of a chunk is none")
        return int(line, 16)

    def _exactly(self, length: int, deadline: Deadline) -> Iterator[bytes]:
        left = length
        while left:
            piece = bytearray(min(left, PIECE))
            try:
                self.into(memoryview(piece), deadline)
            except Transient as error:
                if left == length <= PIECE:
                    raise
                raise Transient(f"{error.what} of the last piece of {length:,}") from None
            left -= len(piece)
            yield bytes(piece)

    def _take(self, size: int, deadline: Deadline) -> bytes:
        piece = bytearray(size)
        self.into(memoryview(piece), deadline)
        return bytes(piece)

    def _until(self, end: bytes, limit: int, deadline: Deadline) -> bytes:
        """What comes up to ``end``, which is part of it."""
        began = bool(self._came)
        while (place := self._came.find(end)) < 0:
            if len(self._came) > limit:
                raise Garbled("it goes on and on")
            try:
                self._came += self._next(deadline)
            except EOFError:
                if began:
                    raise Transient("the answer was cut before its body") from None
                raise ConnectionResetError("it was closed without an answer") from None
            began = True
        found = bytes(self._came[: place + len(end)])
        del self._came[: place + len(end)]
        return found

    def _some(self, deadline: Deadline) -> bytes:
        """What comes next, at least a byte. Raises EOFError at the end."""
        if self._came:
            found = bytes(self._came)
            self._came.clear()
            return found
        return self._next(deadline)

    def _next(self, deadline: Deadline) -> bytes:
        """What the system has next."""
        self._patience(deadline)
        try:
            found = self._sock.recv(1 << 16)
        except BlockingIOError:
            raise TimeoutError from None
        if found:
            return found
        raise EOFError

    def _patience(self, deadline: Deadline) -> None:
        """Have the next call wait no longer than it may: by the system, which then fills a buffer in one call."""
        left = deadline.left
        if left == 0:
            raise Transient("no time is left")
        seconds = max(0.01, min(SILENT, left))
        if seconds == self._seconds:
            return
        self._seconds = seconds
        if not self._plain:
            return self._sock.settimeout(seconds)
        span = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


def _head(data: bytes, bodiless: bool) -> Head:
    first, *lines = data[:-4].decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise Garbled(repr(first[:60]))
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise Garbled(repr(line[:60]))
        value = value.strip()
        if name == "content-length" and headers.get(name, value) != value:
            raise Garbled("two lengths are given")
        headers[name] = value
    said = headers.get("connection", "" if status[1] == "1" else "close").lower()
    length = 0 if bodiless or status[2] in ("204", "304") or status[2] < "200" else _length(headers)
    return Head(int(status[2]), status[3] or "", headers, length, "close" not in said and length != -1)


def _length(headers: Mapping[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Garbled(f"its body is {coding[:60]!r}")
        return None
    if length is None:
        return -1
    if not re.fullmatch(r"[0-9]{1,19}", length):
        raise Garbled(f"its length is {length[:60]!r}")
    return int(length)
