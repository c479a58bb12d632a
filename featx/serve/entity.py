"""Bytes with an ETag, to one request: whole or a range, or the news that they are the same as before (RFC 9110).

It speaks ASGI itself: this is the way of every single record, and a response object would cost as much as the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from starlette.types import Scope, Send

from featx.serve.problems import Problem
from featx.serve.spans import Bytes

_WANTED = frozenset((b"if-none-match", b"if-match", b"if-range", b"range", b"accept"))
_RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")
_TAG = re.compile(r'(?:W/)?"[^"]*"')

Headers = dict[bytes, bytes]


def headers_of(scope: Scope) -> Headers:
    """The headers of a request that have a say in how bytes are sent; one that came twice is joined."""
    found: Headers = {}
    for name, value in scope["headers"]:
        if name in _WANTED:
            found[name] = found[name] + b", " + value if name in found else value
    return found


async def send_entity(
    scope: Scope, send: Send, asked: Headers, body: Bytes, tag: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    """Answer a GET or HEAD with ``body``, whose strong ETag is ``tag``. Raises Problem 412 and 416."""
    size, status = len(body), 200
    start: list[tuple[bytes, bytes]] = [*headers, (b"etag", tag), (b"accept-ranges", b"bytes")]
    if asked and not _fits(asked, tag):
        same = [line for line in start if line[0] != b"content-type"]  # as of the whole: caches keep what it says
        await send({"type": "http.response.start", "status": 304, "headers": same})
        await send({"type": "http.response.body"})
        return
    if b"range" in asked and scope["method"] == "GET" and asked.get(b"if-range", tag) == tag:
        part = _part(asked[b"range"].decode("latin-1"), size)
        if part is not None:
            first, last = part
            start.append((b"content-range", b"bytes %d-%d/%d" % (first, last, size)))
            body, size, status = memoryview(body)[first : last + 1], last + 1 - first, 206
    start.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _fits(asked: Mapping[bytes, bytes], tag: bytes) -> bool:
    """Whether the bytes are to be sent; False: the other side has them. Raises Problem where If-Match wants others."""
    if b"if-match" in asked and not _listed(asked[b"if-match"], tag, weak=False):
        raise Problem(
            412, "changed", "the record is not the one that If-Match names", "get it anew", {"etag": tag.decode()}
        )
    return b"if-none-match" not in asked or not _listed(asked[b"if-none-match"], tag, weak=True)


def _listed(header: bytes, tag: bytes, *, weak: bool) -> bool:
    text, wanted = header.decode("latin-1").strip(), tag.decode()
    if text == "*":
        return True
    tags = _TAG.findall(text)
    return any((t.removeprefix("W/") if weak else t) == wanted for t in tags)


def _part(header: str, size: int) -> tuple[int, int] | None:
    """The first and last byte that are asked for; None where the header means nothing. Raises Problem 416."""
    unit, equals, ranges = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    refused = {"content-range": f"bytes */{size}"}
    if "," in ranges:
        raise Problem(416, "one_range", "several ranges are asked for", "ask for one range at a time", refused)
    found = _RANGE.fullmatch(ranges)
    if found is None or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if first and last and int(first) > int(last):
        return None
    low = int(first) if first else max(0, size - int(last))
    high = size - 1 if not (first and last) else min(int(last), size - 1)
    if low > high:
        raise Problem(416, "range", f"the range ends before it begins, or lies behind the {size} bytes", "", refused)
    return low, high
