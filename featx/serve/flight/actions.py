"""What can be asked of a store beside its records; the answers are those of the routes of HTTP, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from featx.codec import store_key
from featx.errors import UsageError
from featx.serve.flight.tickets import Limits, read_object, shown, text_of
from featx.serve.spans import Spans

PAGE = 1000  # what a page holds unless asked
LONGEST_PAGE = 10_000
_SHAPE = 'the body of an action is JSON like {"store": "NAME"}'

Asked = Mapping[str, Any]


def manifest(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: manifest.json, which has a checksum of its own"""
    _only(asked, "store")
    return spans.reader.manifest.document()


def parts(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: {"parts": [part.json, ...]} of the parts that are finished"""
    _only(asked, "store")
    return _json({"parts": [json.loads(part.document()) for part in spans.reader.parts]})


def keys(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store", "after", "limit", "order", "prefix", "search"}: {"keys": [...], "next"}; only store must be there"""
    _only(asked, "store", "after", "limit", "order", "prefix", "search")
    order = asked.get("order", "key")
    found = _found(spans, asked, order)
    page = list(islice(found, _limit(asked) + 1))
    more, page = len(page) > _limit(asked), page[: _limit(asked)]
    following = page[-1][0] if more and page else None
    return _json({"keys": [key for _, key in page], "next": following})


def failures(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store", "after", "limit"}: {"failures": [{"key", "ordinal", "source", "reason", "message"}, ...], "next"}"""
    _only(asked, "store", "after", "limit")
    first = _whole(asked, "after", 0)
    found = list(islice(spans.reader.failures(), first, first + _limit(asked) + 1))
    more = len(found) > _limit(asked)
    rows = [refusal._asdict() for refusal in found[: _limit(asked)]]
    return _json({"failures": rows, "next": first + len(rows) if more else None})


def limits(spans: Spans, asked: Asked, limits: Limits) -> bytes:
    """{"store"}: {"keys", "size"}: keys of a ticket, and bytes of a ticket or of the body of an action, at most"""
    _only(asked, "store")
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


def _found(spans: Spans, asked: Asked, order: object) -> Iterator[tuple[Any, str]]:
    """The keys that are asked for, each behind what ``after`` is to be for the ones that follow."""
    prefix, search = (text_of({name: "", **asked}, name, _SHAPE) for name in ("prefix", "search"))
    search = search.lower()
    if order == "source":
        first = _whole(asked, "after", 0)
        placed: Iterator[tuple[Any, str]] = islice(enumerate(spans.reader.keys("source"), 1), first, None)
    elif order == "key":
        after = text_of({"after": "", **asked}, "after", _SHAPE)
        bound = store_key(after) if after else b""
        placed = ((key, key) for key in spans.reader if store_key(key) > bound)
    else:
        raise UsageError(f"there is no order {shown(order)}", "ask for 'key' or 'source'")
    return ((place, key) for place, key in placed if key.startswith(prefix) and search in key.lower())


def _limit(asked: Asked) -> int:
    return max(1, min(_whole(asked, "limit", PAGE), LONGEST_PAGE))


def _whole(asked: Asked, name: str, otherwise: int) -> int:
    found = asked.get(name, otherwise)
    if type(found) is not int or not 0 <= found < 2**63:
        raise UsageError(f"{name} is {shown(found)}", "it is a whole number, from 0")
    return found


def _only(asked: Asked, *names: str) -> None:
    if unknown := sorted(set(asked) - set(names)):
        raise UsageError(f"there is no {shown(unknown[0])} to this action", f"it takes {', '.join(names)}")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
