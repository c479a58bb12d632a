"""Slow, rude and lost clients at the compiled thread are in nobody's way, what it does is counted, stores change under
it, and it finishes what is under way when it is told to end."""

from __future__ import annotations

import gc
import resource
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from featx.serve import door, mounted
from featx.serve.listener import listen
from featx.serve.metrics import BUCKETS
from featx.serve.mounted import Mounts
from tests.doors import EXPECTED, RECORD, Watched, all_of, both, clogged, connected, head, parsed, said, tag_of
from tests.forked import in_child
from tests.serving import KEYS, bytes_of, make_stores, path_of, serving
from tests.store_oracle import KINDS, make_store, names
from tests.test_serve_metrics import samples

pytestmark = pytest.mark.skipif(door.compiled() is None, reason="featx._lane is not compiled here")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_request_that_drips_is_answered_and_one_that_stops_is_ended(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    with both(stores, monkeypatch, timeout=30.0) as (ours, _), closing(connected(ours)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head(RECORD):
            connection.sendall(bytes([byte]))
        assert all_of(connection).endswith(EXPECTED)
    begins = [b"", b"GE", head(RECORD)[:-2], head(RECORD) + b"GET "]
    with both(stores, monkeypatch) as (ours, _), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda begin: said(ours, begin), begins))
    assert [answer.count(b"HTTP/1.1 200") for answer in answers] == [0, 0, 0, 1]
    assert watched.seen == []


def test_a_request_behind_answered_ones_is_handed_over_in_its_turn(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    last = head(path_of("lmdb", "nobody")) + head(RECORD)
    with both(stores, monkeypatch) as (ours, _):
        answers = parsed(said(ours, head(RECORD) + head(RECORD, method="HEAD") + last), ["GET", "HEAD"])
    assert [status.split()[1] for status, _, _ in answers] == [b"200", b"200", b"404", b"200"]
    assert watched.seen == [last]


def test_who_ends_his_side_gets_the_answers_that_he_asked_for(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with both(stores, monkeypatch) as (ours, _), closing(connected(ours)) as connection:
        connection.sendall(head(RECORD) * 3)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection).count(EXPECTED) == 3


def test_clients_that_do_not_read_or_vanish_are_in_nobodys_way(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Mounts.of(**stores), timeout=5.0) as server:
        clients = [clogged(server) for _ in range(4)]
        assert [server.ask("GET", RECORD).body for _ in range(20)] == [EXPECTED] * 20
        for client in clients[:2]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it is reset
            client.close()
        assert server.ask("GET", RECORD).body == EXPECTED
        for client in clients[2:]:
            file = client.makefile("rb")
            for _ in range(50):
                while file.readline() != b"\r\n":
                    pass
                assert file.read(len(EXPECTED)) == EXPECTED
            file.close()
            client.close()


def test_connections_are_dealt_out_to_those_who_wait() -> None:
    """As workers do: else all clients that come one after the other would be with the same process, every time.

    The system wakes who has waited longest; on a machine that is busy one of two may come late to every one.
    """
    shares = [dealt(20) for _ in range(5)]
    assert max(map(min, shares)) > 5, f"of 20 connections, two threads took {shares}"


def dealt(count: int) -> list[int]:
    """How many of so many connections, one after the other, each of two threads took."""
    native = door.compiled()
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0, 60.0))
        listener.setblocking(False)
        lanes = [native.make(listener.fileno(), 60.0, 60.0, (), b"", (), BUCKETS) for _ in range(2)]
        for lane in lanes:
            native.start(lane)
            stack.callback(native.end, lane)
        clients: list[socket.socket] = []
        until = time.monotonic() + 30
        while len(clients) < count:
            clients.append(stack.enter_context(socket.create_connection(listener.getsockname())))
            while sum(map(native.left, lanes)) < len(clients):
                assert time.monotonic() < until
                time.sleep(0.001)
        shares = [native.left(lane) for lane in lanes]
        for lane in lanes:
            native.stop(lane)
        assert [all_of(client) for client in clients] == [b""] * count
    return shares


def test_what_was_answered_is_counted(stores: dict[str, Path], watched: Watched) -> None:
    route, length = "/v1/stores/{store}/records/{key}", len(EXPECTED)
    with serving(Mounts.of(**stores)) as server:
        for _ in range(7):
            server.ask("GET", RECORD)
        server.ask("HEAD", RECORD)
        for method in ("GET", "HEAD", "HEAD"):
            server.ask(method, RECORD, headers={"if-none-match": tag_of(KEYS[3])})
        assert watched.seen == []
        found, again = samples(server), samples(server)
    for method, status, count in (("GET", "200", 7), ("HEAD", "200", 1), ("GET", "304", 1), ("HEAD", "304", 2)):
        assert found["featx_requests_total", method, route, status] == count
        assert again["featx_requests_total", method, route, status] == count
    assert found["featx_sent_bytes_total", route] == 7 * length
    assert found["featx_request_seconds_count", route] == found["featx_request_seconds_bucket", "+Inf", route] == 11
    assert 0 < found["featx_request_seconds_sum", route] < 11


def test_a_store_that_was_replaced_is_the_new_one_and_the_old_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    monkeypatch.setattr(mounted, "EVERY", 0.05)
    schema = KINDS["lmdb"].schema
    path, other = (
        make_store(tmp_path / "s", "lmdb", 10, schema=schema),
        make_store(tmp_path / "t", "lmdb", 20, schema=schema),
    )
    key, mounts = names(20)[2], Mounts.of(lmdb=path)
    asked = path_of("lmdb", key)
    with serving(mounts) as server:
        before = server.ask("GET", asked)
        assert before.body == bytes_of(key, schema, 10)
        latest = mounts.stores["lmdb"].latest
        assert latest is not None
        old = weakref.ref(latest)
        del latest
        slow = clogged(server)
        path.rename(tmp_path / "old")
        other.rename(path)
        until = time.monotonic() + 30
        while (after := server.ask("GET", asked)).headers["featx-digest"] == before.headers["featx-digest"]:
            assert time.monotonic() < until
        assert after.body == bytes_of(key, schema, 20)
        assert mounts.stores["lmdb"].latest is not old()
        slow.close()
        while old() is not None:
            gc.collect()
            assert time.monotonic() < until
        assert server.ask("GET", asked).body == after.body
    assert watched.seen == []


def test_a_store_that_somebody_in_the_process_closes_is_answered_from_on(
    stores: dict[str, Path], watched: Watched
) -> None:
    mounts = Mounts.of(**stores)
    with serving(mounts) as server:
        assert server.ask("GET", RECORD).body == EXPECTED
        with mounts["lmdb"]:
            pass  # it opens again when it is used, elsewhere
        gc.collect()
        assert server.ask("GET", RECORD).body == EXPECTED
    assert watched.seen == []


def test_a_look_at_a_store_that_fails_is_not_the_last(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mounted, "EVERY", 0.05)
    told: list[str] = []
    tell = door.Door._tell

    def failing(own: door.Door, store: mounted.Mounted) -> None:
        told.append(store.name)
        if len(told) == 20:
            raise ValueError("no such shard")
        tell(own, store)

    with serving(Mounts.of(**stores)) as server:
        monkeypatch.setattr(door.Door, "_tell", failing)
        until = time.monotonic() + 30
        while len(told) < 60:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert server.ask("GET", RECORD).body == EXPECTED
    assert "cannot be given to the compiled thread: no such shard" in caplog.text


def test_a_connection_that_is_closed_has_ended_although_a_child_holds_its_file(
    stores: dict[str, Path], watched: Watched
) -> None:
    with (
        serving(Mounts.of(**stores), timeout=1.0) as server,
        closing(connected(server)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.sendall(head(RECORD)[:7])  # and no more: late, and closed by the server
        time.sleep(0.2)
        child = pool.submit(in_child, lambda: time.sleep(6))
        client.settimeout(4)
        assert client.recv(1) == b""
        with suppress(OSError):
            client.sendall(head(RECORD)[7:])
        assert server.ask("GET", RECORD).body == EXPECTED
        assert child.result() == 0
    assert watched.seen == []


def test_answers_under_way_are_finished_when_it_is_told_to_end(stores: dict[str, Path]) -> None:
    with serving(Mounts.of(**stores), drain=30.0) as server:
        slow = clogged(server)
        idle = connected(server)
        assert server.ask("GET", RECORD).body == EXPECTED
        reading = threading.Timer(0.5, lambda: answers.append(all_of(slow)))
        answers: list[bytes] = []
        reading.start()
    reading.join()
    assert all_of(idle) == b""
    found = parsed(answers[0], [])
    assert {(status.split()[1], body) for status, _, body in found} == {(b"200", EXPECTED)}
    for client in (slow, idle):
        client.close()


def test_what_is_not_finished_in_time_is_cut_off(stores: dict[str, Path]) -> None:
    with serving(Mounts.of(**stores), drain=0.2) as server:
        slow = clogged(server)
        assert server.ask("GET", RECORD).status == 200
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    slow.close()


def test_it_goes_on_when_no_more_files_can_be_opened(stores: dict[str, Path]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(Mounts.of(**stores)) as server:
        first = connected(server)
        first.sendall(head(RECORD))
        assert first.recv(12) == b"HTTP/1.1 200"
        clients: list[socket.socket] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (first.fileno() + 8, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                clients.extend(connected(server) for _ in range(10_000))
        finally:
            for client in clients:
                client.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert server.ask("GET", RECORD).body == EXPECTED
        first.close()
