"""A reader behind grpc:// and servers that fail: what passes is tried again, what comes is never believed unseen."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featx.errors import FeatxError, StoreDamaged, StoreError
from featx.serve.flight.server import Server
from featx.serve.flight.tickets import Limits
from featx.serve.mounted import Mounts
from featx.store import open_store
from featx.store.remote import retry
from featx.store.remote.flight_faults import Fault, fault_of, raised
from tests.store_oracle import FIXED, make_store, names
from tests.test_gather import assert_same

KEYS = [name for place, name in enumerate(names(12)) if place % 7 != 6]
VIEWS = pa.schema(
    [
        pa.field("key", pa.utf8(), False),
        pa.field("record", pa.binary_view()),
        pa.field("problem", pa.struct([pa.field(n, pa.utf8(), False) for n in ("kind", "message", "hint")])),
    ]
)


class Double(Server):
    """The server, which does instead what the first of ``faults`` does. asked: the calls that came."""

    def __init__(self, path: Path) -> None:
        super().__init__("grpc://127.0.0.1:0", Mounts.of(s=path), Limits(100, 8192))
        self.faults: list[Callable[[], Any]] = []
        self.asked: list[str] = []

    def do_get(self, context: Any, ticket: Any) -> Any:
        self.asked.append(json.loads(ticket.ticket)["form"])
        return self.faults.pop(0)() if self.faults else super().do_get(context, ticket)

    def do_action(self, context: Any, action: Any) -> Any:
        self.asked.append(action.type)
        return self.faults.pop(0)() if self.faults else super().do_action(context, action)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("s") / "s", "lmdb", 12, schema=FIXED)


@pytest.fixture(scope="module")
def running(path: Path) -> Iterator[Double]:
    with Double(path) as server:
        yield server


@pytest.fixture
def double(running: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    monkeypatch.setattr(retry, "FIRST", 0.001)
    running.faults.clear()
    running.asked.clear()
    return running


@contextmanager
def store_of(double: Double, **options: Any) -> Iterator[Any]:
    with open_store(f"grpc://127.0.0.1:{double.port}/s", **options) as store:
        len(store.get_batch(KEYS[:1]))  # limits are known
        double.asked.clear()
        yield store


def fails(code: str) -> Callable[[], Any]:
    def fault() -> Any:
        raise raised(Fault(code, "it went wrong", "look there"))

    return fault


def times_out() -> Any:
    raise flight.FlightTimedOutError("too late")


def streams(*batches: Any, schema: Any = VIEWS, end: Callable[[], Any] | None = None) -> Callable[[], Any]:
    """An answer of these batches, ended by a fault."""

    def made() -> Iterator[Any]:
        yield from batches
        if end is not None:
            end()

    return lambda: flight.GeneratorStream(schema, made())


def rows(keys: list[str], records: list[bytes | None], problems: list[Any] | None = None) -> Any:
    columns = [pa.array(keys, pa.utf8()), pa.array(records, pa.binary_view())]
    return pa.RecordBatch.from_arrays([*columns, pa.array(problems or [None] * len(keys), VIEWS[2].type)], schema=VIEWS)


@pytest.mark.parametrize("fault", [fails("unavailable"), times_out, streams(end=fails("unavailable"))])
def test_what_passes_is_tried_again(double: Double, path: Path, fault: Callable[[], Any]) -> None:
    with store_of(double) as store:
        double.faults = [fault, fault]
        assert_same(store.get_batch(KEYS), open_store(path).get_batch(KEYS))
        assert double.asked == ["views"] * 3
        double.faults = [fault]
        assert store.row_counts(KEYS).tolist() == open_store(path).row_counts(KEYS).tolist()


def test_a_stream_that_ends_in_the_middle_is_asked_for_again(double: Double, path: Path) -> None:
    folder = open_store(path)
    with store_of(double) as store:
        double.faults = [streams(rows(KEYS[:3], [folder.stored_bytes(key) for key in KEYS[:3]]))]
        assert_same(store.get_batch(KEYS), folder.get_batch(KEYS))
        assert double.asked == ["views"] * 2


@pytest.mark.parametrize("code", ["bad_request", "internal", "damaged", "something"])
def test_what_stays_wrong_is_told_at_once(double: Double, code: str) -> None:
    with store_of(double) as store:
        double.faults = [fails(code)]
        with pytest.raises(FeatxError, match="it went wrong"):
            store.get_batch(KEYS)
        assert double.asked == ["views"]


def test_there_is_an_end_to_trying(double: Double) -> None:
    with store_of(double, timeout=0.2) as store:
        double.faults = [fails("unavailable")] * 1000
        with pytest.raises(StoreError, match="could not be read, tried"):
            store.get_batch(KEYS)
        assert 1 < len(double.asked) < 200


def test_a_record_that_was_changed_on_its_way_is_fetched_once_more(double: Double, path: Path) -> None:
    folder = open_store(path)
    good = [folder.stored_bytes(key) for key in KEYS]
    bad = [bytes([*good[0][:99], good[0][99] ^ 1, *good[0][100:]]), *good[1:]]
    short = [good[0][:-16], *good[1:]]
    exchanged = [good[1], good[0], *good[2:]]
    with store_of(double) as store:
        for records in (bad, short, exchanged, [b"short", *good[1:]], [b"", *good[1:]]):
            double.faults = [streams(rows(KEYS, records))]
            assert_same(store.get_batch(KEYS), folder.get_batch(KEYS))
            double.faults = [streams(rows(KEYS[:1], records[:1]))]
            assert store[KEYS[0]] == folder[KEYS[0]]
            double.faults = [streams(rows(KEYS, records))] * 2
            with pytest.raises(StoreDamaged, match="damaged"):
                store.get_batch(KEYS)
            double.faults.clear()


def test_a_record_that_is_damaged_there_is_told(double: Double, path: Path) -> None:
    told = [{"kind": "damaged", "message": "it rots", "hint": ""}]
    with store_of(double) as store:
        for action in (lambda: store[KEYS[0]], lambda: store.get_batch(KEYS[:1])):
            double.faults = [streams(rows(KEYS[:1], [None], told))] * 2
            with pytest.raises(StoreDamaged, match="it rots"):
                action()
            double.faults.clear()


def test_a_view_of_nothing_is_not_followed(double: Double) -> None:
    """The record is null, and its view names a buffer that is not there."""
    view = np.array([(100, b"", 7, 0)], [("length", "<i4"), ("prefix", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
    column = pa.Array.from_buffers(pa.binary_view(), 1, [pa.py_buffer(b"\0"), pa.py_buffer(view.tobytes())])
    problem = pa.array([{"kind": "damaged", "message": "it rotted", "hint": ""}], VIEWS[2].type)
    batch = pa.RecordBatch.from_arrays([pa.array(KEYS[:1]), column, problem], schema=VIEWS)
    with store_of(double) as store:
        double.faults = [streams(batch)]
        with pytest.raises(StoreDamaged, match="it rotted"):
            store.get_batch(KEYS[:1])


def test_a_problem_that_is_none_is_no_problem(double: Double, path: Path) -> None:
    columns = [pa.array(KEYS[:1]), pa.array([open_store(path).stored_bytes(KEYS[0])], pa.binary_view()), pa.array([1])]
    schema = pa.schema([*list(VIEWS)[:2], pa.field("problem", pa.int64())])
    with store_of(double) as store:
        double.faults = [streams(pa.RecordBatch.from_arrays(columns, schema=schema), schema=schema)]
        assert_same(store.get_batch(KEYS[:1]), open_store(path).get_batch(KEYS[:1]))


def test_what_is_damaged_there_is_not_said_to_be_missing_when_rows_are_counted(double: Double) -> None:
    names = ["ordinal", "count", "size", "checksum", "rows"]
    problem = pa.array([{"kind": "damaged", "message": "it rots", "hint": ""}], VIEWS[2].type)
    arrays = [pa.array(KEYS[:1]), *(pa.nulls(1, pa.uint64()) for _ in names), problem]
    batch = pa.RecordBatch.from_arrays(arrays, names=["key", *names, "problem"])
    with store_of(double) as store:
        double.faults = [streams(batch, schema=batch.schema)] * 2
        with pytest.raises(StoreDamaged, match="it rots"):
            store.row_counts(KEYS[:1])
        assert KEYS[0] in store


def test_a_manifest_that_was_changed_is_refused(double: Double, path: Path) -> None:
    document = (path / "manifest.json").read_bytes()
    for body in (b"", b"{}", document.replace(b"float16", b"float32"), document[:-9], b"[" * 5000):
        double.faults = [lambda body=body: iter([flight.Result(body)])]
        with pytest.raises(StoreError):
            open_store(f"grpc://127.0.0.1:{double.port}/s")


def test_a_proxy_of_the_environment_is_not_asked(double: Double, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.1)
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with store_of(double, token="secret", timeout=5) as store:
            assert_same(store.get_batch(KEYS), open_store(path).get_batch(KEYS))
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_a_fault_survives_its_way_whatever_its_text() -> None:
    for text in ("", "é" * 5000, "\ud800", "a\nb\0c", '"}'):
        found = fault_of(raised(Fault("bad_request", text, text)))
        assert found is not None
        assert found.code == "bad_request"
    for info in (b"", b"[]", b"{", b'{"code": 1, "message": 2, "hint": 3}', b"\xff", b"[" * 9000):
        assert fault_of(flight.FlightServerError("x", info)) is None


TYPES = st.sampled_from([pa.utf8(), pa.binary_view(), pa.binary(), pa.int64(), pa.list_(pa.utf8()), VIEWS[2].type])
FIELDS = st.lists(st.tuples(st.sampled_from(["key", "record", "problem", "x"]), TYPES), max_size=4)
RECORDS = st.none() | st.binary(max_size=120) | st.sampled_from([b"FXRC" + bytes(44), b"FXRC\x01" + bytes(60)])


@st.composite
def answers(draw: st.DrawFn) -> Callable[[], Any]:
    """Streams that no server of featx sends."""
    if draw(st.booleans()):
        schema = pa.schema([pa.field(name, kind) for name, kind in draw(FIELDS)])
        batch = pa.RecordBatch.from_arrays([pa.nulls(2, field.type) for field in schema], schema=schema)
        return streams(batch, schema=schema)
    batches = []
    for _ in range(draw(st.integers(0, 3))):
        keys = draw(st.lists(st.sampled_from(KEYS[:3]), max_size=4))
        records = [draw(RECORDS) for _ in keys]
        problem = {"kind": draw(st.sampled_from(["damaged", "missing", "?"])), "message": "m", "hint": "h"}
        batches.append(rows(keys, records, [draw(st.sampled_from([None, problem])) for _ in keys]))
    return streams(*batches, end=draw(st.sampled_from([None, fails("bad_request")])))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers(), answers(), st.sampled_from(["always", "never"]))
def test_whatever_a_server_sends_there_is_a_good_batch_or_an_error(
    double: Double, path: Path, first: Callable[[], Any], second: Callable[[], Any], checksums: Any
) -> None:
    double.faults.clear()
    with open_store(f"grpc://127.0.0.1:{double.port}/s", checksums=checksums) as store:
        for action in (
            lambda: store.get_batch(KEYS[:3]),
            lambda: store[KEYS[0]],
            lambda: store.row_counts(KEYS[:3]),
            lambda: list(store.keys()),
        ):
            double.faults = [first, second]
            with suppress(FeatxError):
                action()
            double.faults.clear()
        assert_same(store.get_batch(KEYS), open_store(path).get_batch(KEYS))
