"""What stands before every route: who may ask, how much, for how long, and what browsers are told of the answer."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.serve.problems import Problem, answer_of, log
from featx.serve.settings import LOCAL_NAMES, Settings

CSP = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})  # without a token: nothing of a store is in them
_READS = frozenset({"GET", "HEAD"})
_MEANT = (b"host", b"authorization", b"origin", b"content-length")
_ALLOWED = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, range, if-match, if-none-match, if-range"),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = b"etag, content-range, accept-ranges, featx-digest, featx-max-keys, retry-after"

Headers = dict[bytes, bytes]
Lines = tuple[tuple[bytes, bytes], ...]


class Guard:
    """Middleware of the application. open: paths that need no token beside ``OPEN``.

    names: by which the server may be called where there is no token; None: by any.
    """

    def __init__(self, app: ASGIApp, settings: Settings, open: frozenset[str] = frozenset()) -> None:
        self.app, self.settings, self.open = app, settings, OPEN | open
        self._token = None if settings.token is None else sha256(settings.token.encode()).digest()
        self._origins = frozenset(origin.encode() for origin in settings.origins)
        names = (*LOCAL_NAMES, settings.host.lower(), f"[{settings.host.lower()}]")
        self.names = frozenset(name.encode() for name in names) if settings.loopback else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = _headers(scope)
        origin = asked.get(b"origin")
        named = origin is not None and origin in self._origins
        told = Told(send, _shared(origin) if origin is not None and named else SECURITY)
        if named and scope["method"] == "OPTIONS":
            return await _preflight(told)
        try:
            self._admit(scope, asked, origin)
            if scope["method"] in _READS:  # the answer is sent as it is made; the socket has a time limit of its own
                await self.app(scope, receive, told)
            else:
                await self._timed(scope, limited(receive, self.settings.max_body), told)
        except Exception as error:
            if told.begun:
                if not isinstance(error, Problem):
                    log.error("%s %r", scope["method"], scope["path"], exc_info=error)
                raise Gone from None
            await answer_of(scope, error)(scope, receive, told)

    def _admit(self, scope: Scope, asked: Headers, origin: bytes | None) -> None:
        """Raise Problem for a request that is not to be answered."""
        if scope["path"] in self.open and self._token is not None:
            return
        if not self.admits(asked.get(b"host", b""), asked.get(b"authorization", b"")):
            if self._token is None:
                raise Problem(421, "unknown_host", "the server is for this machine", "ask for it as 127.0.0.1")
            told = {"www-authenticate": "Bearer"}
            raise Problem(401, "no_token", "the server wants its token", "send Authorization: Bearer TOKEN", told)
        if scope["method"] in _READS:
            return
        if origin is not None and origin not in self._origins and origin.partition(b"://")[2] != asked.get(b"host"):
            raise Problem(403, "foreign_page", "a page of another host may not ask this", "name it with --cors")
        length = asked.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 15 or int(length) > self.settings.max_body):
            raise too_large(self.settings.max_body)

    def admits(self, host: bytes, authorization: bytes) -> bool:
        """Whether a request with these headers is from somebody who may ask.

        Without a token, what matters is the name that the server is called by: a page elsewhere may have given this
        machine a name of its own, and would read what only its users may.
        """
        if self._token is None:
            return self.names is None or _hostname(host) in self.names
        kind, _, token = authorization.partition(b" ")
        same = compare_digest(sha256(token.strip()).digest(), self._token)  # of equal length, so it takes equal time
        return same and kind.lower() == b"bearer"

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self.settings.timeout
        try:
            async with asyncio.timeout(seconds):
                await self.app(scope, receive, send)
        except TimeoutError:
            hint, wait = "ask for less at a time, or again", {"retry-after": "1"}
            raise Problem(503, "too_slow", f"it took more than {seconds:g} s", hint, wait) from None


class Gone(Exception):
    """An answer that was begun will not be finished: the connection is to be closed."""


def too_large(limit: int) -> Problem:
    """The body is longer than the server takes."""
    return Problem(413, "too_large", f"the body is longer than {limit} bytes", "send less at a time")


def limited(receive: Receive, limit: int) -> Receive:
    """``receive`` that raises Problem as soon as more than ``limit`` bytes of a body came."""
    left = limit

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large(limit)
        return message

    return counted


def _headers(scope: Scope) -> Headers:
    return {name: value for name, value in scope["headers"] if name in _MEANT}


@lru_cache(maxsize=256)
def _hostname(host: bytes) -> bytes:
    """``localhost`` of ``localhost:8000``."""
    name, bracket, _ = host.lower().partition(b"]")
    return name + bracket if bracket else name.partition(b":")[0]


class Told:
    """``send`` that tells browsers what they may do with an answer. begun: whether its head was sent."""

    def __init__(self, send: Send, lines: Lines) -> None:
        self._send, self._lines = send, lines
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name for name, _ in headers}
            message["headers"] = headers + [line for line in self._lines if line[0] not in there or line[0] == b"vary"]
            self.begun = True
        await self._send(message)


def _shared(origin: bytes) -> Lines:
    """What is told of an answer that a page of ``origin`` may read."""
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
        *SECURITY[:-1],
        (b"cross-origin-resource-policy", b"cross-origin"),
    )


async def _preflight(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": list(_ALLOWED)})
    await send({"type": "http.response.body"})
