"""What a store says of itself and which keys it has: manifest, parts, refusals and keys, in pages.

Functions over a reader, which HTTP and Flight share, and the routes of HTTP.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any
from unicodedata import normalize

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from featx.codec import store_key
from featx.errors import FeatxError, UsageError
from featx.serve.batches import MAX_KEYS
from featx.serve.entity import headers_of, send_entity
from featx.serve.mounted import Mounted, Mounts
from featx.serve.problems import JSON, unknown_store
from featx.serve.spans import Spans
from featx.store.reader import StoreReader

PAGE, LARGEST_PAGE = 1000, 10_000  # keys
SCANNED = 50_000  # keys that one search looks at
NO_CACHE = {"cache-control": "no-cache"}


def manifest_bytes(reader: StoreReader) -> bytes:
    """``manifest.json`` of the store."""
    return reader.manifest.document()


def parts_body(reader: StoreReader) -> dict[str, Any]:
    """``part.json`` of every finished part."""
    return {"parts": [json.loads(part.document()) for part in reader.parts]}


def keys_page(reader: StoreReader | Spans, query: Mapping[str, str]) -> dict[str, Any]:
    """Some keys, and behind which the next page begins (None: there is none).

    query: ``after``, ``limit``, ``order`` (key or source; then ``after`` is an ordinal, or ``ORDINAL.N``: behind the
    first N of the records that share it), ``prefix``, ``search`` (in any case). A search ends after 50,000 keys, and
    the next page goes on. Raises UsageError.
    """
    spans = reader if isinstance(reader, Spans) else Spans(reader)
    limit, order, after = limit_of(query), query.get("order", "key"), query.get("after")
    prefix, search = (normalize("NFC", query.get(name, "")) for name in ("prefix", "search"))
    search = search.casefold()
    if order == "source":
        return _by_source(spans, after, limit, lambda key: key.startswith(prefix) and search in key.casefold())
    if order != "key":
        raise UsageError(f"there is no order {order[:40]!r}", "order is key or source")
    found: list[str] = []
    last, keys = None, _keys(spans.reader, after, prefix)
    for key in islice(keys, SCANNED):
        last = key
        if search in key.casefold():
            found.append(key)
            if len(found) == limit:
                break
    return {"keys": found, "next": last if last is not None and next(keys, None) is not None else None}


def _keys(reader: StoreReader, after: str | None, prefix: str) -> Iterator[str]:
    """The keys that begin with ``prefix`` and are behind ``after``."""
    if not prefix:
        return iter(reader.keys() if after is None else reader.keys_after(after))
    if after is not None and store_key(after) >= store_key(prefix):
        return takewhile(lambda key: key.startswith(prefix), reader.keys_after(after))
    own = [prefix] if prefix in reader else []
    return chain(own, takewhile(lambda key: key.startswith(prefix), reader.keys_after(prefix)))


def _by_source(spans: Spans, after: str | None, limit: int, wanted: Callable[[str], bool]) -> dict[str, Any]:
    ordinals, keys = spans.ordinals
    place = 0 if after is None else _behind(ordinals, after)
    end = min(len(keys), place + SCANNED)
    found: list[str] = []
    while place < end and len(found) < limit:
        if wanted(keys[place]):
            found.append(keys[place])
        place += 1
    return {"keys": found, "next": _cursor(ordinals, place) if 0 < place < len(keys) else None}


def _behind(ordinals: Sequence[int], after: str) -> int:
    """The place that :func:`_cursor` stands for. Raises UsageError."""
    text, several, some = after.partition(".")
    ordinal = number(text, "after")
    end = bisect_right(ordinals, ordinal)
    return min(end, bisect_left(ordinals, ordinal) + number(some, "after")) if several else end


def _cursor(ordinals: Sequence[int], place: int) -> int | str:
    """What a page that ends before ``place`` is continued by. In a merged store several records have one ordinal."""
    last = ordinals[place - 1]
    return f"{last}.{place - bisect_left(ordinals, last)}" if ordinals[place] == last else last


def failures_page(reader: StoreReader | Spans, query: Mapping[str, str]) -> dict[str, Any]:
    """Refused pictures from number ``after`` on, and where the next page begins (None: there is none)."""
    failures = reader.failures if isinstance(reader, Spans) else list(reader.failures())
    first, limit = number(query.get("after", "0"), "after"), limit_of(query)
    rows = [refusal._asdict() for refusal in failures[first : first + limit]]
    return {"failures": rows, "next": first + limit if first + limit < len(failures) else None}


def summary(mounted: Mounted) -> dict[str, Any]:
    """What a list of stores says of one."""
    try:
        reader = mounted.reader
    except FeatxError:
        return {"name": mounted.name, "available": False}
    manifest, profile = reader.manifest, reader.manifest.provenance.get("profile")
    features = reader.schema.fields[0]
    return {
        "name": mounted.name,
        "available": True,
        "records": len(reader),
        "complete": manifest.complete,
        "digest": manifest.totals.digest if manifest.totals else None,
        "refused": manifest.totals.refused if manifest.totals else None,
        "extractor": _text(manifest.provenance.get("extractor")),
        "profile": _text(profile.get("name") if isinstance(profile, Mapping) else profile),
        "boxes": reader.schema.boxes,
        "rows": reader.schema.rows,
        "features": {"dtype": features.dtype, "dim": reader.schema.dim},
        "pictures": mounted.pictures,
    }


def number(text: str, name: str) -> int:
    """A whole number of a query. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UsageError(f"{name} is {text[:40]!r}", "give a whole number")
    return int(text)


def limit_of(query: Mapping[str, str]) -> int:
    """How long a page may be. Raises UsageError."""
    limit = number(query.get("limit", str(PAGE)), "limit")
    if not 1 <= limit <= LARGEST_PAGE:
        raise UsageError(f"limit is {limit}", f"a page has 1 to {LARGEST_PAGE} rows")
    return limit


class Manifests:
    """GET of ``/v1/stores/{store}``: the manifest, whose checksum is its ETag."""

    def __init__(self, mounts: Mounts, max_keys: int) -> None:
        self._mounts, self._max_keys = mounts, str(max_keys).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spans = _named(self._mounts, scope["path_params"]["store"]).spans
        body = manifest_bytes(spans.reader)
        headers = [
            (b"content-type", JSON.encode()), (b"cache-control", b"no-cache"),
            (MAX_KEYS.encode(), self._max_keys), *spans.headers,
        ]  # fmt: skip
        tag = f'"{json.loads(body)["checksum"]}"'.encode()
        await send_entity(scope, send, headers_of(scope), body, tag, headers)


def listing_routes(mounts: Mounts, max_keys: int) -> list[Route]:
    """The routes."""

    async def stores(request: Request) -> Response:
        return _json({"stores": [summary(mounted) for mounted in mounts.stores.values()]})

    def page(make: Callable[[Spans, Mapping[str, str]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            spans = _named(mounts, request.path_params["store"]).spans
            return _json(await run_in_threadpool(make, spans, request.query_params), spans)

        return answer

    front = "/v1/stores/{store}"
    return [
        Route("/v1/stores", stores),
        Route(front, Manifests(mounts, max_keys), methods=["GET"]),
        Route(f"{front}/parts", page(lambda spans, query: parts_body(spans.reader))),
        Route(f"{front}/failures", page(failures_page)),
        Route(f"{front}/keys", page(keys_page)),
    ]


def _named(mounts: Mounts, name: str) -> Mounted:
    mounted = mounts.stores.get(name)
    if mounted is None:
        raise unknown_store(name)
    return mounted


def _json(data: Any, spans: Spans | None = None) -> Response:
    response = Response(json.dumps(data), media_type=JSON, headers=NO_CACHE)
    response.raw_headers.extend(() if spans is None else spans.headers)
    return response


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
