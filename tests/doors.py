"""Servers with the compiled thread and without it, what is sent to them byte by byte, and what comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from featx.serve import door, process
from featx.serve.mounted import Mounts
from tests.serving import KEYS, Server, bytes_of, path_of, serving
from tests.store_oracle import KINDS

RECORD = path_of("lmdb", KEYS[3])
EXPECTED = bytes_of(KEYS[3], KINDS["lmdb"].schema)
PATIENCE, KEEP_ALIVE = 2.0, 0.5  # seconds of the servers below

Spoken = tuple[bytes, tuple[bytes, ...], bytes]  # status line, headers, body


@contextmanager
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers that begin in this block are Python's."""
    with monkeypatch.context() as changed:
        changed.setattr(process, "compiled", lambda: None)
        yield


class Watched:
    """Requests that were handed over, as far as they had been read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[bytes] = []
        arrive = door.Door._arrive

        async def watched(own: door.Door, file: int, first: bytes) -> None:
            self.seen.append(first)
            await arrive(own, file, first)

        monkeypatch.setattr(door.Door, "_arrive", watched)


def head(
    path: str, *lines: str, method: str = "GET", version: str = "HTTP/1.1", host: str | None = "localhost"
) -> bytes:
    named = [] if host is None else [f"Host: {host}"]
    return "\r\n".join([f"{method} {path} {version}", *named, *lines, "", ""]).encode("latin-1")


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """Whatever comes until the other side ends it."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def said(server: Server, sent: bytes) -> bytes:
    """All that is answered to some bytes until the server ends the connection, which it does in good time."""
    with closing(connected(server)) as connection:
        connection.sendall(sent)
        return all_of(connection)


def parsed(answers: bytes, methods: list[str]) -> list[Spoken]:
    """The answers one after the other; what cannot be read is the last."""
    found: list[Spoken] = []
    while answers:
        lines, _, rest = answers.partition(b"\r\n\r\n")
        first, *headers = lines.split(b"\r\n")
        length = next((int(h.split(b":")[1]) for h in headers if h.lower().startswith(b"content-length:")), 0)
        if (len(found) < len(methods) and methods[len(found)] == "HEAD") or b" 304 " in first:
            length = 0
        found.append((first, tuple(sorted(headers)), rest[:length]))
        answers = rest[length:]
    return found


@contextmanager
def both(stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[tuple[Server, Server]]:
    """A server with the thread and one without."""
    monkeypatch.setattr(process, "KEEP_ALIVE", KEEP_ALIVE)
    settings = {"timeout": PATIENCE, **settings}
    with (
        serving(Mounts.of(**stores), **settings) as ours,
        alone(monkeypatch),
        serving(Mounts.of(**stores), **settings) as theirs,
    ):
        yield ours, theirs


def tag_of(key: str) -> str:
    return f'"{int.from_bytes(bytes_of(key, KINDS["lmdb"].schema)[40:48], "little"):016x}"'


def clogged(server: Server, requests: int = 4000) -> socket.socket:
    """A client that asks for a lot and reads nothing."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", server.port))
    made.setblocking(False)
    left = memoryview(head(RECORD) * requests)
    try:
        while left:
            left = left[made.send(left) :]
    except BlockingIOError:
        pass
    made.settimeout(30)
    return made
