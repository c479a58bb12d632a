"""What a client of Arrow Flight asks for: a JSON object in a ticket, or in the body of an action."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from featx.errors import UsageError
from featx.store.reader import Order

Form = Literal["records", "views", "arrays", "headers", "keys"]
FORMS: tuple[Form, ...] = get_args(Form)
EXAMPLE = '{"store": "NAME", "keys": ["a.jpg"], "form": "records"}'
_SHAPE = f'a ticket is JSON like {EXAMPLE}, or with "part": 0 or "all": true in the place of the keys'


@dataclass(frozen=True)
class Limits:
    """keys: of one ticket. size: of a ticket, and of the body of an action, bytes."""

    keys: int
    size: int


@dataclass(frozen=True)
class Ticket:
    """Which records of which store, and as what: some ``keys``, all of one ``part``, or (both None) all, in order."""

    store: str
    form: Form = "records"
    keys: tuple[str, ...] | None = None
    part: int | None = None
    order: Order = "key"

    def to_bytes(self) -> bytes:
        """The JSON that :func:`read_ticket` reads."""
        chosen: dict[str, Any] = {"all": True, "order": self.order}
        if self.keys is not None:
            chosen = {"keys": list(self.keys)}
        elif self.part is not None:
            chosen = {"part": self.part}
        return json.dumps({"store": self.store, **chosen, "form": self.form}).encode()


def read_ticket(data: bytes, limits: Limits) -> Ticket:
    """The ticket in ``data``. Raises UsageError, saying what is wrong with it."""
    asked = read_object(data, limits, _SHAPE)
    if unknown := sorted(set(asked) - {"store", "keys", "part", "all", "form", "order"}):
        raise UsageError(f"a ticket has no {unknown[0][:80]!r}", _SHAPE)
    chosen = [name for name in ("keys", "part", "all") if name in asked]
    if len(chosen) != 1:
        raise UsageError(f"the ticket has {' and '.join(chosen) or 'neither keys nor part nor all'}", _SHAPE)
    store, form = text_of(asked, "store", _SHAPE), asked.get("form", "records")
    if form not in FORMS:
        raise UsageError(f"the form is {shown(form)}", f"ask for one of {', '.join(FORMS)}")
    order = asked.get("order", "key")
    if order not in get_args(Order) or (order != "key" and chosen != ["all"]):
        raise UsageError(f"the order is {shown(order)}", 'all records come by "key" or by "source", others as they are')
    if chosen == ["keys"]:
        return Ticket(store, form, _keys(asked["keys"], limits))
    if chosen == ["part"]:
        part = asked["part"]
        if type(part) is not int or part < 0:
            raise UsageError(f"the part is {shown(part)}", "parts are counted from 0")
        return Ticket(store, form, part=part)
    if asked["all"] is not True:
        raise UsageError(f"all is {shown(asked['all'])}", _SHAPE)
    return Ticket(store, form, order=order)


def read_object(data: bytes, limits: Limits, shape: str) -> Mapping[str, Any]:
    """The JSON object in ``data``. Raises UsageError; ``shape`` says what is expected."""
    if len(data) > limits.size:
        raise UsageError(f"{len(data)} bytes were sent, at most {limits.size} are read", "ask for fewer keys at a time")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise UsageError("what was sent is not JSON", shape) from None
    if not isinstance(found, dict):
        raise UsageError("what was sent is JSON, but no object", shape)
    return found


def text_of(asked: Mapping[str, Any], name: str, shape: str) -> str:
    """A member that is text. Raises UsageError."""
    found = asked.get(name)
    if not isinstance(found, str):
        raise UsageError(f"{name} is {shown(found)}" if name in asked else f"{name} is missing", shape)
    return found


def shown(value: object) -> str:
    """Any value of JSON, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(keys: object, limits: Limits) -> tuple[str, ...]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UsageError("keys is not a list of text", _SHAPE)
    if len(keys) > limits.keys:
        raise UsageError(f"{len(keys)} keys are asked for, at most {limits.keys} at a time", "ask more than once")
    for key in keys:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise UsageError(f"key {shown(key)} is not text: it cannot be written as UTF-8", _SHAPE) from None
    return tuple(keys)
