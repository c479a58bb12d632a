"""Clients of a server under load: good ones, and those that vanish, read slowly, ask for nonsense or have no token.

Every byte that a good client gets is compared with what the oracle says. ``python -m tests.load_clients PORT SECONDS
PAUSE KIND...`` runs one thread of each KIND and prints what they saw as JSON.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, ClassVar

from tests.serving import KEYS, Server, bytes_of, path_of
from tests.store_oracle import SCHEMA

TOKEN = "sixteen-letters-or-more"
BEARER = {"authorization": f"Bearer {TOKEN}"}
MAX_KEYS, MAX_BODY = 100, 30_000  # of the server
EXPECTED = {key: bytes_of(key, SCHEMA) for key in KEYS}


def rounds(count: int) -> Callable[[], bool]:
    """Says yes ``count`` times."""
    left = iter(range(count))
    return lambda: next(left, None) is not None


def seconds(count: float) -> Callable[[], bool]:
    """Says yes for so long."""
    end = time.monotonic() + count
    return lambda: time.monotonic() < end


class Client(threading.Thread):
    """Goes on as long as ``more`` says so, with a ``pause`` between rounds, and keeps what went wrong.

    wrong: answers that must not be. failed: when good requests got no answer, and why. took: seconds of each good one.
    """

    name_of: ClassVar[str]

    def __init__(self, server: Server, seed: int, more: Callable[[], bool], pause: float = 0.0) -> None:
        super().__init__()
        self.server, self.rng, self.more, self.pause = server, random.Random(seed), more, pause
        self.wrong: list[str] = []
        self.failed: list[tuple[float, str]] = []
        self.took: list[float] = []
        self.rounds = 0

    def run(self) -> None:
        while self.more():
            self.once()
            self.rounds += 1
            time.sleep(self.pause)

    def once(self) -> None:
        """One round."""
        raise NotImplementedError


class Good(Client):
    """Single records and batches, on a connection that stays; a new one when it was broken."""

    name_of = "good"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)

    def run(self) -> None:
        with closing(self.connection):
            super().run()

    def once(self) -> None:
        key = self.rng.choice(KEYS)
        self.expect(key, "GET", path_of("s", key), None, EXPECTED[key])
        keys = self.rng.choices(KEYS, k=self.rng.randrange(1, 30))
        frames = b"".join(struct.pack("<IIQ", 1, 0, len(EXPECTED[key])) + EXPECTED[key] for key in keys)
        end = struct.pack("<IIQQQ", 0xE0F, 0, 8, len(keys), 0)
        self.expect(f"{len(keys)} keys", "POST", "/v1/stores/s/records", {"keys": keys}, frames + end)

    def expect(self, what: str, method: str, path: str, body: Any, expected: bytes) -> None:
        """Ask, and compare."""
        begin = time.perf_counter()
        try:
            answer = self.server.ask_on(self.connection, method, path, body, BEARER)
        except (OSError, http.client.HTTPException) as error:
            self.failed.append((time.time(), f"{what}: {type(error).__name__} {error}"))
            self.connection.close()
            return
        self.took.append(time.perf_counter() - begin)
        if (answer.status, answer.body) != (200, expected):
            self.wrong.append(f"{what}: {answer.status}, {len(answer.body)} of {len(expected)} bytes")


class Rude(Client):
    """Goes away in the middle, or does not read."""

    name_of = "rude"

    def once(self) -> None:
        key = self.rng.choice(KEYS)
        head = f"GET {path_of('s', key)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        body = json.dumps({"keys": KEYS}).encode()
        post = f"POST /v1/stores/s/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
        post += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        huge = re.sub(rb"Content-Length: \d+", b"Content-Length: 1000000000000", post)
        data = self.rng.choice([head * 20, post * 5, head[:-20], post[:-30], huge, b"\x16\x03\x01 nonsense\r\n\r\n"])
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.server.port), 60)) as connection:
            connection.sendall(data)
            if data.startswith((head * 20, post * 5)) and self.rng.random() < 0.5:
                connection.recv(100)


class Slow(Client):
    """Reads many batches a few bytes at a time, and is still right about what it reads."""

    name_of = "slow"

    def once(self) -> None:
        post = f"POST /v1/stores/s/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
        body = json.dumps({"keys": KEYS[:1]}).encode()
        post += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.server.port), 60)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(post * 20)
            came = b""
            while self.more() and came.count(b"HTTP/1.1 ") < 20 and (read := connection.recv(512)):
                came += read
                time.sleep(0.01)
            if b"HTTP/1.1 5" in came:
                self.wrong.append("a slow reader was told of a fault of the server")


class Wrong(Client):
    """Asks for what there is not, or what it may not."""

    name_of = "wrong"

    def once(self) -> None:
        for method, path, body, headers, status in (
            ("GET", path_of("s", KEYS[0]), None, {}, 401),
            ("GET", path_of("s", KEYS[0]), None, {"authorization": "Bearer nothing-that-fits"}, 401),
            ("GET", path_of("s", f"nobody-{self.rng.random()}"), None, BEARER, 404),
            ("GET", f"/v1/stores/other/{self.rng.random()}", None, BEARER, 404),
            ("POST", "/v1/stores/s/records", {"keys": ["a"] * (MAX_KEYS + 1)}, BEARER, 413),
            ("POST", "/v1/stores/s/records", {"keys": ["a" * (MAX_BODY + 10_000)]}, BEARER, 413),
            ("POST", "/v1/stores/s/records", b"{", {**BEARER, "content-type": "application/json"}, 400),
        ):
            try:
                found = self.server.ask(method, path, body, headers).status
            except (BrokenPipeError, ConnectionResetError):  # a body that is too long is not read to its end
                found = 413
            except (OSError, http.client.HTTPException) as error:
                self.failed.append((time.time(), f"{method} {path[:60]}: {error}"))
                continue
            if found != status:
                self.wrong.append(f"{method} {path[:60]}: {found}, expected {status}")


KINDS = {kind.name_of: kind for kind in (Good, Rude, Slow, Wrong)}


def main(port: str, long: str, pause: str, *kinds: str) -> None:
    """Run one client of each kind, and print what they saw."""
    server = Server(int(port), None)  # type: ignore[arg-type]
    clients = [KINDS[kind](server, seed, seconds(float(long)), float(pause)) for seed, kind in enumerate(kinds)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    told = [{n: getattr(one, n) for n in ("wrong", "failed", "took", "rounds")} for one in clients]
    print(json.dumps([{"kind": one.name_of, **saw} for one, saw in zip(clients, told, strict=True)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
