"""What can be asked of a store beside its records; the answers are those of the routes of HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from featx.errors import UsageError
from featx.serve.flight.tickets import Limits, read_object, shown, text_of
from featx.serve.listing import failures_page, keys_page, manifest_bytes, parts_body
from featx.serve.spans import Spans

_SHAPE = 'the body of an action is JSON like {"store": "NAME"}'

Asked = Mapping[str, Any]


def manifest(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: manifest.json, which has a checksum of its own"""
    _query(asked)
    return manifest_bytes(spans.reader)


def parts(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: {"parts": [part.json, ...]} of the parts that are finished"""
    _query(asked)
    return _json(parts_body(spans.reader))


def keys(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store", "after", "limit", "order", "prefix", "search"}: {"keys": [...], "next"}; only store must be there"""
    return _json(keys_page(spans, _query(asked, "after", "limit", "order", "prefix", "search")))


def failures(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store", "after", "limit"}: {"failures": [{"key", "ordinal", "source", "reason", "message"}, ...], "next"}"""
    return _json(failures_page(spans, _query(asked, "after", "limit")))


def limits(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: {"keys", "size"}: keys of a ticket, and bytes of a ticket or of the body of an action, at most"""
    _query(asked)
    return _json(asdict(limits))


ACTIONS: Mapping[str, Callable[[Spans, Asked, Limits], bytes]] = {
    action.__name__: action for action in (manifest, parts, keys, failures, limits)
}


def act(name: str, body: bytes, find: Callable[[str], Spans], limits: Limits) -> bytes:
    """The answer to an action. ``find`` has the stores by name. Raises UsageError, StoreError."""
    action = ACTIONS.get(name)
    if action is None:
        raise UsageError(f"there is no action {shown(name)}", f"there are {', '.join(ACTIONS)}")
    asked = read_object(body, limits, _SHAPE)
    return action(find(text_of(asked, "store", _SHAPE)), asked, limits)


def _query(asked: Asked, *names: str) -> dict[str, str]:
    """The members of an action beside the store, as a query of HTTP has them. Raises UsageError."""
    if unknown := sorted(set(asked) - {"store", *names}):
        raise UsageError(f"there is no {shown(unknown[0])} to this action", f"it takes {', '.join(('store', *names))}")
    query = {}
    for name in (name for name in names if name in asked):
        if type(asked[name]) not in (str, int):
            raise UsageError(f"{name} is {shown(asked[name])}", "it is text or a whole number")
        query[name] = str(asked[name])
    return query


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
