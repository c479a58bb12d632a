"""The short way of the commonest request: GET of one record, nothing else asked (uvicorn with httptools).

Such a request is answered where its headers were parsed: no task, no layers, one write of a head and a part of the
mapped file. Whatever is not plain (a condition, a range, another form, a foreign name, an unknown key) goes the way of
all, so no rule is written twice. A batch hands its pieces to the socket in one call, too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from featx.codec import CHECKSUM, HEADER
from featx.errors import FeatxError
from featx.serve.batches import PIECES
from featx.serve.forms import RECORD
from featx.serve.guard import SECURITY, Guard
from featx.serve.metrics import Counts
from featx.serve.mounted import Mounted, Mounts
from featx.serve.records import AS_STORED
from featx.serve.spans import Bytes, Spans

ROUTE = "/v1/stores/{store}/records/{key}"
HEADERS = 64 << 10  # bytes of an address and the headers of a request
_FRONT, _BETWEEN = b"/v1/stores/", b"/records/"
PLAIN_ACCEPT = frozenset((b"*/*", RECORD.encode(), b"application/octet-stream"))
_NOT_PLAIN = frozenset(
    (b"range", b"if-match", b"if-none-match", b"if-range", b"origin", b"expect", b"upgrade", b"transfer-encoding",
     b"content-length", b"connection")
)  # fmt: skip

Asked = Sequence[tuple[bytes, bytes]]


class Lane:
    """Plain requests for one record, answered out of the stores of an application."""

    def __init__(self, app: Starlette) -> None:
        mounts: Mounts = app.state.mounts
        self._stores: dict[bytes, Mounted] = {name.encode(): mounted for name, mounted in mounts.stores.items()}
        self._counts: Counts = app.state.counts
        self._guard = Guard(app, app.state.settings)
        self.patience: float = app.state.settings.timeout
        self._heads: tuple[Spans | None, bytes] = (None, b"")

    def answer(self, url: bytes, headers: Asked) -> tuple[bytes, Bytes] | None:
        """Head and body; None where the application is to answer."""
        began = perf_counter()
        name, between, rest = url[len(_FRONT) :].partition(_BETWEEN)
        mounted = self._stores.get(name)
        if mounted is None or not between or b"?" in rest or b"#" in rest or not self._plain(headers):
            return None
        try:
            key = (unquote_to_bytes(rest) if b"%" in rest else rest).decode()
            spans = mounted.spans
            stored = spans.mapped(key)
        except (FeatxError, OSError, UnicodeDecodeError):
            return None
        if stored is None:
            return None
        (checksum,) = CHECKSUM.unpack_from(stored, HEADER.size)
        size = len(stored)
        self._counts.note(ROUTE, "GET", 200, size, perf_counter() - began)
        return b'%betag: "%016x"\r\ncontent-length: %d\r\n\r\n' % (self._head(spans), checksum, size), stored

    def _plain(self, headers: Asked) -> bool:
        host = token = b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"authorization":
                token = value
            elif name == b"accept":
                if value not in PLAIN_ACCEPT:
                    return False
            elif name in _NOT_PLAIN and not (name == b"connection" and value.lower() == b"keep-alive"):
                return False
        return self._guard.admits(host, token)

    def _head(self, spans: Spans) -> bytes:
        """What is the same for all records of a store."""
        last, head = self._heads
        if last is not spans:
            head = plain_head(spans)
            self._heads = spans, head
        return head


def plain_head(spans: Spans) -> bytes:
    """The head of an answer up to what is of the record."""
    lines = [*AS_STORED, *spans.headers, (b"accept-ranges", b"bytes"), *SECURITY]
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines)


class LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way in it, and an end to waiting for a request that does not come.

    first: what somebody else read of the connection before.
    """

    first = b""

    def __init__(self, lane: Lane, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lane, self._room = lane, HEADERS
        self._latest: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if self.first:
            self.data_received(self.first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._latest is None and self.timeout_keep_alive_task is None:
            self._wait()

    def _wait(self) -> None:
        """The head of the next request has so long, in however many pieces it comes."""
        if self.cycle is None or self.cycle.response_complete:
            self._latest = self.loop.call_later(self._lane.patience, self.timeout_keep_alive_handler)

    def _heard(self) -> None:
        if self._latest is not None:
            self._latest.cancel()
            self._latest = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._room = HEADERS

    def on_url(self, url: bytes) -> None:
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._take(len(name) + len(value))
        super().on_header(name, value)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError("too long a head")  # the parser ends the request, and uvicorn the connection: 400

    def on_headers_complete(self) -> None:
        self._heard()
        before = self.cycle
        if (
            self.url.startswith(_FRONT)
            and (before is None or before.response_complete)
            and self.parser.get_method() == b"GET"
            and not self.flow.write_paused
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
        ):
            answer = self._lane.answer(self.url, self.headers)
            if answer is not None:
                self.cycle = cast(Any, _ANSWERED)
                self.transport.writelines(answer)
                self.on_response_complete()
                return
        super().on_headers_complete()
        self.headers = []  # those of the request are its scope's; what follows its body (trailers) is none of them
        if _at_once(type(self.transport).__module__):  # its task begins later than this
            cast(dict[str, Any], self.scope)["extensions"] = {PIECES: partial(self._write, self.cycle)}

    def _write(self, cycle: RequestResponseCycle, pieces: Sequence[Bytes], size: int) -> None:
        """The next ``size`` bytes of the body of a request, which need not be the last that came."""
        if not cycle.disconnected:
            cycle.expected_content_length -= size
            self.transport.writelines(pieces)


def _at_once(module: str) -> bool:
    """Whether the transports of ``module`` write many buffers without putting them together first."""
    return module.startswith("uvloop") or sys.version_info >= (3, 12)


class _Answered:
    """A request that was answered: what uvicorn asks of the last one."""

    response_complete = True
    disconnected = False
    keep_alive = True

    class message_event:  # noqa: N801
        """Nobody waits."""

        @staticmethod
        def set() -> None: ...


_ANSWERED = _Answered()


def lane_of(app: Starlette) -> Any:
    """What uvicorn takes as ``http``."""
    return partial(LaneProtocol, Lane(app))
