"""Tickets and the bodies of actions: what is not one gets a sentence, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow.flight as flight
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.serve.flight import FlightService
from featx.serve.flight.tickets import Limits, Ticket, read_ticket
from tests.flight_calls import act, client_of, get, served
from tests.store_oracle import make_store, names

LIMITS = Limits(keys=3, size=300)
CODES = {"bad_request", "unknown_store", "not_offered"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["store", "keys", "part", "all", "form", "order", "after", "limit", "prefix", "search"]
LIKELY = st.sampled_from(["one", "records", "arrays", "key", "source", True, 0, [names(1)[0]], -1, 2**70, ["\ud800"]])
ASKED = st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=4), VALUES | LIKELY, max_size=6)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlightService]:
    with served(one=make_store(tmp_path_factory.mktemp("served") / "one", "lmdb", 8), max_keys=3) as running:
        yield running


def test_a_ticket_is_read_as_it_was_written() -> None:
    for ticket in (
        Ticket("a", "arrays", ("x", "é")),
        Ticket("a", "views", ()),
        Ticket("b", part=3),
        Ticket("c", "keys", order="source"),
    ):
        assert read_ticket(ticket.to_bytes(), LIMITS) == ticket


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 290, "not JSON"),
        (b"1" * 290, "no object"),
        (b"[]", "no object"),
        (b"{}", "neither keys nor part nor all"),
        (b'{"store": "a"}', "neither keys nor part nor all"),
        (b'{"store": "a", "all": true, "part": 1}', "part and all"),
        (b'{"all": true}', "store is missing"),
        (b'{"store": 5, "all": true}', "store is 5"),
        (b'{"store": "a", "all": false}', "all is False"),
        (b'{"store": "a", "part": -1}', "part is -1"),
        (b'{"store": "a", "part": true}', "part is True"),
        (b'{"store": "a", "part": 1.0}', "part is 1.0"),
        (b'{"store": "a", "keys": "abc"}', "not a list of text"),
        (b'{"store": "a", "keys": ["a", 1]}', "not a list of text"),
        (b'{"store": "a", "keys": ["\\ud800"]}', "not text"),
        (b'{"store": "a", "keys": ["a", "a", "a", "a"]}', "4 keys are asked for, at most 3"),
        (b'{"store": "a", "keys": [], "form": "pickle"}', "form is 'pickle'"),
        (b'{"store": "a", "keys": [], "form": ["records"]}', "form is"),
        (b'{"store": "a", "keys": [], "order": "source"}', "order is 'source'"),
        (b'{"store": "a", "all": true, "order": {}}', "order is {}"),
        (b'{"store": "a", "all": true, "path": "/etc"}', "no 'path'"),
        (b" " * 301, "301 bytes were sent, at most 300"),
    ],
)
def test_what_is_no_ticket_is_refused_with_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_ticket(data, LIMITS)


def refused(call: Any) -> dict[str, str]:
    """The fault that a call is refused with; nothing of the server's insides may be in it."""
    with pytest.raises(flight.FlightError) as caught:
        call()
    text = str(caught.value)
    assert "Traceback" not in text
    assert ".py" not in text
    fault: dict[str, str] = json.loads(caught.value.extra_info)
    assert fault["code"] in CODES
    assert fault["message"]
    return fault


@pytest.mark.parametrize(
    ("ticket", "code"),
    [
        (b"{", "bad_request"),
        ({"store": "two", "all": True}, "unknown_store"),
        ({"store": "../one", "all": True}, "unknown_store"),
        ({"store": "one", "part": 1}, "bad_request"),
        ({"store": "one", "keys": ["a"] * 4}, "bad_request"),
        (b" " * 9000, "bad_request"),
    ],
)
def test_a_bad_ticket_is_answered_and_the_server_goes_on(service: FlightService, ticket: object, code: str) -> None:
    assert refused(lambda: get(service, ticket))["code"] == code
    assert get(service, {"store": "one", "keys": ["no"]}).num_rows == 1


def test_nothing_can_be_put_and_nothing_unknown_done(service: FlightService) -> None:
    client, path = client_of(service), flight.FlightDescriptor.for_path("one")
    table = get(service, {"store": "one", "all": True})

    def put() -> None:
        writer, _ = client.do_put(path, table.schema)
        writer.write_table(table)
        writer.close()

    def exchange() -> None:
        writer, reader = client.do_exchange(path)
        writer.begin(table.schema)
        writer.done_writing()
        reader.read_all()

    assert refused(put)["code"] == "not_offered"
    assert refused(exchange)["code"] == "not_offered"
    assert "'drop'" in refused(lambda: act(service, "drop", {"store": "one"}))["message"]
    assert {name for name, _ in client.list_actions()} == {"manifest", "parts", "keys", "failures", "limits"}
    for descriptor in (flight.FlightDescriptor.for_path(), flight.FlightDescriptor.for_path("one", "pickle")):
        refused(lambda descriptor=descriptor: client.get_flight_info(descriptor))


@settings(max_examples=150)
@given(st.binary(max_size=100) | ASKED.map(lambda asked: json.dumps(asked).encode()))
@example(b'{"store": "one", "all": true, "form": "arrays"}')
@example(b'{"store": "one", "keys": ["' + "é".encode() * 300 + b'"]}')
def test_any_ticket_gets_records_or_a_sentence(service: FlightService, data: bytes) -> None:
    try:
        table = get(service, data)
    except flight.FlightError:
        refused(lambda: get(service, data))
    else:
        table.validate(full=True)


@settings(max_examples=150)
@given(st.sampled_from(["manifest", "parts", "keys", "failures", "limits", "", "é"]) | st.text(max_size=5), ASKED)
@example("keys", {"store": "one", "after": "\ud800"})
@example("keys", {"store": "one", "after": "a\nb"})
@example("failures", {"store": "one", "after": 2**62})
def test_any_action_gets_an_answer_or_a_sentence(service: FlightService, name: str, asked: dict[str, Any]) -> None:
    body = {"store": "one", **asked}
    try:
        act(service, name, body)
    except flight.FlightError:
        refused(lambda: act(service, name, body))
