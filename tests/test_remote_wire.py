"""HTTP/1.1 as it comes over a connection: heads and bodies written by hand, in any pieces, and bytes that are none."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from featx.store.remote import wire
from featx.store.remote.retry import Deadline, Transient
from featx.store.remote.wire import Garbled, Head, Wire


@contextmanager
def sent(pieces: Sequence[bytes], *, end: bool = True) -> Iterator[Wire]:
    """A connection on which these pieces come, one after the other."""
    near, far = socket.socketpair()
    # a socket of the family UNIX knows no TCP_NODELAY
    near = Plain(near.family, near.type, near.proto, near.detach())

    def send() -> None:
        for piece in filter(None, pieces):  # nothing at all may still find the other side gone
            far.sendall(piece)
        if end:
            far.close()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    made = Wire(near)
    try:
        yield made
    finally:
        made.close()
        thread.join(10)
        far.close()


class Plain(socket.socket):
    def setsockopt(self, *arguments: object) -> None:  # type: ignore[override]
        if arguments[0] != socket.IPPROTO_TCP:
            super().setsockopt(*arguments)  # type: ignore[call-overload]


def read(pieces: Sequence[bytes], *, bodiless: bool = False) -> tuple[Head, bytes, int]:
    with sent(pieces) as connection:
        deadline = Deadline(20)
        head = connection.head(deadline, bodiless=bodiless)
        body = connection.body(head, deadline)
        return head, body, connection.left


ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhello", 200, b"hello", True),
    "nothing": (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, b"", True),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n",
               200, b"hello", True),
    "to the end": (b"HTTP/1.1 404 Not Found\r\n\r\nhello", 404, b"hello", False),
    "closing": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    "no reason": (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b"", True),
    "early hints": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                    200, b"hi", True),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status", "body", "keep"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_however_it_comes(data: bytes, status: int, body: bytes, keep: bool) -> None:
    for pieces in ([data], [data[:9], data[9:]], [data[i : i + 1] for i in range(len(data))]):
        head, found, left = read(pieces)
        assert (head.status, found, head.keep, left) == (status, body, keep, 0)


def test_names_of_headers_are_small_and_values_bare() -> None:
    assert read([ANSWERS["length"][0]])[0].headers == {"content-length": "5", "x-y": "z"}


def test_a_head_alone_has_no_body() -> None:
    head, body, _ = read([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"], bodiless=True)
    assert (head.length, body, head.keep) == (0, b"", True)


def test_what_follows_an_answer_is_left() -> None:
    assert read([ANSWERS["length"][0] + b"more"])[2] == 4


@pytest.mark.parametrize("size", [1, 1 << 16, 3_000_000])
def test_a_body_of_any_size_lands_where_it_is_wanted(size: int) -> None:
    data = random.Random(size).randbytes(size)
    for cut in (0, 1, size // 2):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        with sent([head + data[:cut], data[cut:]], end=False) as connection:
            deadline, out = Deadline(20), bytearray(size + 8)
            assert connection.head(deadline).length == size
            connection.into(memoryview(out)[4 : size + 4], deadline)
            assert out == bytes(4) + data + bytes(4)


GARBLED = [
    b"\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"220 mail ESMTP\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"\x16\x03\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", b"x" * 200_000,
]  # fmt: skip


@pytest.mark.parametrize("data", GARBLED, ids=lambda data: repr(data[-30:]))
def test_what_is_no_http_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        read([data])


CUT = [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
       b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\nhel",
       b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"]  # fmt: skip


@pytest.mark.parametrize("data", CUT, ids=lambda data: repr(data[-30:]))
def test_what_is_cut_is_told(data: bytes) -> None:
    with pytest.raises(Transient, match="was cut"):
        read([data])


def test_nothing_at_all_is_a_closed_connection() -> None:
    with pytest.raises(ConnectionError):
        read([])


def test_what_does_not_come_is_not_waited_for_beyond_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENT", 0.05)
    with sent([b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nhel"], end=False) as connection:
        head = connection.head(Deadline(20))
        assert head.length == 900_000
        with pytest.raises(TimeoutError):
            connection.into(memoryview(bytearray(900_000)), Deadline(20))
    with sent([], end=False) as connection, pytest.raises(TimeoutError):
        connection.head(Deadline(20))


def test_whatever_comes_is_an_answer_or_an_error_that_is_known() -> None:
    rng, whole = random.Random(5), [data for data, *_ in ANSWERS.values()]
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                data[at:at] = rng.choice((b"\r\n", b"9" * 18, b":", b"\0", b"0\r\n\r\n"))
        try:
            head, body, _ = read([bytes(data)])
        except (Garbled, Transient, OSError):
            continue
        assert 200 <= head.status <= 999
        assert len(body) <= len(data)
