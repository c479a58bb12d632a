"""What goes wrong on the way: tried again where that may help, told clearly where it does not, and never read wrong."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featx.codec import store_key
from featx.errors import FeatxError, KeyNotFound, StoreDamaged, StoreError, UsageError
from featx.store import StoreReader, open_store
from featx.store.native import Reader
from featx.store.remote import connection, posted, remote_store, retry, wire
from featx.store.remote.framing import MEDIA_TYPE
from featx.store.remote.http_store import HttpStore
from featx.store.remote.retry import Deadline, Transient, persist
from tests.remote_double import (
    Double,
    Fault,
    Reply,
    announced,
    body,
    chunked,
    closing,
    cut,
    flipped,
    garbage,
    header,
    reset,
    served,
    serving,
    status,
)
from tests.store_oracle import FIXED, make_store, names, record_of
from tests.test_gather import assert_same

KEYS = names(6)
RECORD = names(1)[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("s") / "s", "lmdb", 20, schema=FIXED)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST", 0.001)
    monkeypatch.setattr(posted, "PORTION", 1 << 16)  # all keys of these tests at once


@pytest.fixture
def double(path: Path) -> Iterator[Double]:
    with serving(served(path)) as running:
        yield running


@pytest.fixture(params=["native", "plain"])
def store(double: Double, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreReader]:
    if request.param == "plain":
        monkeypatch.setattr(remote_store, "reader", lambda: Reader(None, "left out"))
    with open_store(f"{double.url}/s", timeout=30) as opened:
        yield opened


def slow(reply: Reply) -> None:
    """The second half of the body does not come before the client has gone."""
    reply.wait = threading.Event()


PROXIED = body(b"Internal Server Error", "text/plain", 500)  # of what is before servers, one of which died

PASSING: dict[str, list[Fault | None]] = {
    "cut": [cut], "cut three times": [cut] * 3, "reset": [reset], "503": [status(503)],
    "503 that says when": [status(503, "0")], "502 and 504": [status(502), status(504)], "429": [status(429)],
    "garbage": [garbage], "closed after an answer": [closing], "in pieces": [chunked],
    "flipped": [flipped(-100)], "flipped header of a record": [flipped(18)], "flipped end": [flipped(-20)],
    "500 of a proxy": [PROXIED], "no records": [body(b"<html>", "text/html")],
    "one after another": [reset, status(503), cut, chunked],
}  # fmt: skip


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again_and_the_batch_is_right(
    store: StoreReader, double: Double, path: Path, faults: list[Fault | None]
) -> None:
    double.faults.extend(faults)
    assert_same(store.get_batch(KEYS), open_store(path).get_batch(KEYS))
    assert not double.faults
    assert_same(store.get_batch(KEYS), open_store(path).get_batch(KEYS))


@pytest.mark.parametrize(
    "fault",
    [cut, reset, status(503), garbage, closing, chunked, flipped(60)],
    ids=["cut", "reset", "503", "garbage", "closing", "chunked", "flipped"],
)
def test_a_single_record_is_tried_again_too(store: StoreReader, double: Double, fault: Fault) -> None:
    double.faults.append(fault)
    assert store[RECORD] == record_of(RECORD, FIXED)
    assert not double.faults


def elsewhere(reply: Reply) -> None:
    """A redirection."""
    status(302)(reply)
    reply.headers["Location"] = "http://a.b/"


LASTING: dict[str, tuple[Fault, type[FeatxError], str]] = {
    "flipped in a record": (flipped(-100), StoreDamaged, r"record '.*' is damaged: the bytes have checksum"),
    "flipped frame": (flipped(4), StoreError, "tried 2 times: the answer of the server is damaged"),
    "400": (status(400), StoreError, "answers 400: so so"),
    "401": (status(401), UsageError, "wants a token"),
    "404": (status(404), StoreError, "there is no store at"),
    "500": (status(500), StoreError, "answers 500: so so"),
    "500 of a proxy": (PROXIED, StoreError, "tried 2 times: what is before the server answers 500"),
    "no server of ours": (body(b"<html>", "text/html"), StoreError, "sends text/html where records were asked for"),
    "elsewhere": (elsewhere, StoreError, "elsewhere, at http://a.b/"),
    "replaced": (header("featx-digest", "f" * 32), StoreError, "was replaced"),
    "nothing": (body(b""), StoreError, "the answer is empty"),
}


@pytest.mark.parametrize(("fault", "kind", "message"), LASTING.values(), ids=LASTING)
def test_what_lasts_is_told_with_the_url(
    store: StoreReader, double: Double, fault: Fault, kind: type[FeatxError], message: str
) -> None:
    double.faults.extend([fault] * 50)
    with pytest.raises(kind, match=message) as caught:
        store.get_batch(KEYS)
    assert double.url in caught.value.message
    assert caught.value.hint
    assert len(double.faults) >= 47  # it did not go on and on


def test_an_answer_that_asks_to_wait_is_waited_for(
    store: StoreReader, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    double.faults.append(status(503, "7"))
    store.get_batch(KEYS)
    assert waits == [7.0]


def test_a_wait_longer_than_the_time_left_is_not_waited_for(store: StoreReader, double: Double) -> None:
    double.faults.append(status(503, "3600"))
    with pytest.raises(StoreError, match="answers 503: so so") as caught:
        store.get_batch(KEYS)
    assert "asks to wait 3600 s" in caught.value.hint


def test_no_server_is_told_once_the_time_is_over() -> None:
    with socket.socket() as held:  # bound and not listening: refused
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/s"
        before = time.monotonic()
        with pytest.raises(
            StoreError, match=r"could not be read, tried \d+ times: no connection to 127.0.0.1"
        ) as caught:
            open_store(url, timeout=0.2)
    assert time.monotonic() - before < 10
    assert url in caught.value.message
    assert "featx serve" in caught.value.hint


def test_a_body_that_is_cut_each_time_does_not_make_time_for_ever() -> None:
    """Each try announces bytes that have their time; were it given anew to each, there would be no end."""
    tries = 0

    def attempt(deadline: Deadline) -> None:
        nonlocal tries
        tries += 1
        assert tries < 100
        deadline.allow(retry.RATE // 4)  # a quarter of a second
        time.sleep(0.02)
        raise Transient("the answer was cut")

    begin = time.monotonic()
    with pytest.raises(StoreError, match="the answer was cut"):
        persist(attempt, "http://x", 0.2)
    assert time.monotonic() - begin < 2


def test_a_host_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(StoreError, match=r"no-such-host\.invalid"):
        open_store("http://no-such-host.invalid/s", timeout=0.2)


def test_an_answer_that_does_not_come_in_time_is_an_error(
    store: StoreReader, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENT", 0.05)
    monkeypatch.setattr(connection, "CONNECT", 5)
    assert isinstance(store, HttpStore)
    store._service.timeout = 0.3
    events: list[threading.Event] = []

    def stuck(reply: Reply) -> None:
        slow(reply)
        assert reply.wait is not None
        events.append(reply.wait)

    double.faults.extend([stuck] * 50)
    with pytest.raises(StoreError, match=r"too long|in time"):
        store.get_batch(KEYS)
    for event in events:
        event.set()


@pytest.mark.parametrize("size", [10**9, 10**15, 2**62])
def test_a_length_that_lies_gets_no_memory(store: StoreReader, double: Double, size: int) -> None:
    double.faults.extend([announced(size)] * 2)
    tracemalloc.start()
    try:
        if size > 10**12:
            with pytest.raises(StoreError, match=r"announced, for which there is no memory|was cut"):
                store.get_batch(KEYS)
            double.faults.clear()
        store.get_batch(KEYS)
        double.faults.append(announced(size))
        assert store[RECORD] == record_of(RECORD, FIXED)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_connection_that_was_closed_meanwhile_is_made_anew_without_waiting(
    store: StoreReader, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(seconds: float) -> None:
        assert seconds == 0

    monkeypatch.setattr(retry.time, "sleep", never)
    for _ in range(3):
        double.faults.append(closing)
        assert store[RECORD] == record_of(RECORD, FIXED)


def test_a_store_that_was_replaced_is_told_also_where_answers_do_not_name_it(tmp_path: Path) -> None:
    old, new = (make_store(tmp_path / name, "lmdb", count) for name, count in (("old", 9), ("new", 12)))
    with serving(served(old)) as double, open_store(f"{double.url}/s") as store:
        double.tell_digest = False
        double.stores["s"] = open_store(new)
        assert store[names(1)[0]] == record_of(names(1)[0])  # it is in both
        with pytest.raises(StoreError, match=r"s was replaced: its digest was [0-9a-f]{32}, it is [0-9a-f]{32} now"):
            store.get_batch([names(1)[0], "nobody"])
        double.stores["s"] = open_store(old)
        with pytest.raises(KeyNotFound):
            store.get_batch([names(1)[0], "nobody"])


def test_a_record_that_is_damaged_there_is_told_as_such(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s", "lmdb", 6)
    with serving(served(path)) as double, open_store(f"{double.url}/s") as store:
        held = double.stores["s"]

        class Broken:
            manifest = held.manifest

            def find(self, key: bytes) -> bytes | None:
                if key == store_key(KEYS[2]):
                    raise StoreDamaged("it rotted", "")
                return held.find(key)

        double.stores["s"] = Broken()  # type: ignore[assignment]
        with pytest.raises(StoreDamaged, match=f"record '{KEYS[2]}' of .* is damaged there") as caught:
            store.get_batch(KEYS)
        assert "featx verify" in caught.value.hint
        assert len(store.get_batch(KEYS[:2])) == 2


def test_a_token_is_sent_and_a_wrong_one_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATX_TOKEN", raising=False)
    with serving(served(path, token="sesame")) as double:
        with open_store(f"{double.url}/s", token="sesame") as store:
            assert store[RECORD] == record_of(RECORD, FIXED)
            assert "sesame" not in repr(store)
        with pytest.raises(UsageError, match="wants a token") as caught:
            open_store(f"{double.url}/s")
        assert "FEATX_TOKEN" in caught.value.hint
        monkeypatch.setenv("FEATX_TOKEN", "wrong-one")
        with pytest.raises(UsageError, match="refuses the token") as caught:
            open_store(f"{double.url}/s")
        assert "wrong-one" not in str(caught.value)


def test_a_name_may_be_left_out_where_there_is_one_store(path: Path) -> None:
    with serving(served(path)) as double:
        for url in (double.url, f"{double.url}/", f"{double.url}/v1/stores", f"{double.url}/v1/stores/s"):
            with open_store(url) as store:
                assert len(store) == 18
                assert store.url.endswith("/s")  # type: ignore[attr-defined]
        double.stores["t"] = double.stores["s"]
        with pytest.raises(UsageError, match="names no store, and the server has s, t"):
            open_store(double.url)
        with pytest.raises(StoreError, match=r"there is no store at .*: there is no store x") as caught:
            open_store(f"{double.url}/x")
        assert "there are s, t" in caught.value.hint


BODIES = [b"", b"{", b"[]", b"3", b'"x"', b"{}", b'{"keys": 3}', b'{"stores": {}}', b"[" * 100_000, b"\xff\xfe\x00"]


@pytest.mark.parametrize("data", BODIES, ids=lambda data: repr(data[:10]))
def test_answers_that_are_none_are_told_and_do_no_harm(store: StoreReader, double: Double, data: bytes) -> None:
    asked: list[Callable[[], object]] = [
        lambda: list(store.keys()), lambda: list(store.failures()), lambda: store.parts,
        lambda: open_store(double.url), lambda: open_store(f"{double.url}/s"),
    ]  # fmt: skip
    for action in asked:
        double.faults.append(body(data))
        with pytest.raises(StoreError, match=r"does not answer as a server|is damaged|was cut"):
            action()
        double.faults.clear()


@pytest.mark.parametrize(
    ("what", "data"),
    [("keys", b'{"keys": ["a"], "next": "a"}'), ("keys", b'{"keys": [], "next": "b"}'),
     ("failures", b'{"failures": [{"who": 3}], "next": null}'), ("failures", b'{"failures": [3], "next": null}')],
)  # fmt: skip
def test_a_list_without_end_or_with_other_rows_is_told(
    store: StoreReader, double: Double, what: str, data: bytes
) -> None:
    double.faults.extend([body(data)] * 3)
    with pytest.raises(StoreError, match="does not answer as a server"):
        list(getattr(store, what)())


def test_random_damage_is_never_read(store: StoreReader, double: Double, path: Path) -> None:
    expected = open_store(path).get_batch(KEYS)
    frames = 16 + len(expected) * (16 + len(store.stored_bytes(KEYS[0])))
    double.faults.clear()
    for at in range(0, frames, 997):
        double.faults.append(flipped(at % frames))
        try:
            batch = store.get_batch(KEYS)
        except FeatxError:
            double.faults.clear()
            continue
        assert_same(batch, expected)


def test_a_wait_grows_and_has_chance_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retry, "FIRST", 0.1)
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    now = iter(range(1000))
    monkeypatch.setattr(retry.time, "monotonic", lambda: next(now) * 0.001)

    def fail(deadline: Deadline) -> None:
        if len(waits) == 8:
            raise StoreError("enough", "")
        raise Transient("busy")

    with pytest.raises(StoreError, match="enough"):
        persist(fail, "http://here/s", 1000)
    for turn, wait in enumerate(waits):
        span = min(0.1 * 2**turn, 5)
        assert span / 2 <= wait <= span
    assert len(set(waits)) == 8


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:secret@host/s", "holds a user name or a password"),
        ("http://user:secret@host:port/s", "is no URL of a store"),
        ("http://user:secret@[::1/s", "is no URL of a store"),
        ("http://host/s?token=secret", "has a query"),
        ("http://host/s#secret", "has a query or a fragment"),
        ("http:///s", "is no URL of a store"),
        ("http://host:99999/s", "is no URL of a store"),
        ("http://host/v1/stores/a/b", "goes on behind the name"),
        ("http://ho st/s", "is no URL of a store"),
        ("ftp://host/s", "is no place to read a store from"),
    ],
)
def test_urls_that_are_none_are_refused_and_secrets_not_repeated(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_record_that_comes_damaged_twice_is_told_with_its_key_and_url(store: StoreReader, double: Double) -> None:
    for action, at in ((lambda: store[RECORD], 60), (lambda: store.get_batch([RECORD]), 16 + 60)):
        double.faults.extend([flipped(at), flipped(at)])
        with pytest.raises(StoreDamaged) as caught:
            action()
        assert RECORD in caught.value.message
        assert double.url in caught.value.message
        assert "delete" not in caught.value.hint  # it may be sound where it lies


def test_a_token_in_a_location_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match=r"has no 'token'.*\n.*FEATX_TOKEN") as caught:
        open_store({"path": "http://host/s", "token": "secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", [{"token": "a"}, {"cache": True}, {"cache_limit": "1GB"}, {"timeout": 3}], ids=str)
def test_what_is_for_urls_is_refused_for_a_folder(path: Path, option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="is for a store behind a URL"):
        open_store(path, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", [{"timeout": 0}, {"timeout": -1}, {"cache_limit": "much"}, {"token": "a b"}, {"cache": 5}], ids=str
)
def test_options_that_make_no_sense_are_refused(double: Double, option: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_store(f"{double.url}/s", **option)  # type: ignore[arg-type]


def test_only_records_are_taken_for_records(store: StoreReader, double: Double) -> None:
    double.faults.extend([body(b"\0" * 32, MEDIA_TYPE)] * 2)
    with pytest.raises(StoreError, match="the answer of the server is damaged"):
        store.get_batch(KEYS)
