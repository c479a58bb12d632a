"""A short mixed load: good clients among those that vanish, read slowly, ask for nonsense or have no token, while the
store is replaced by another with the same records. No wrong byte, and no good request that fails."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from featx.serve import mounted
from featx.serve.mounted import Mounts
from tests.serving import KEYS, Server, bytes_of, path_of, serving
from tests.store_oracle import SCHEMA, make_store

TOKEN = "sixteen-letters-or-more"
BEARER = {"authorization": f"Bearer {TOKEN}"}
ROUNDS = 25  # of each client
EXPECTED = {key: bytes_of(key, SCHEMA) for key in KEYS}


class Client(threading.Thread):
    """Does its rounds and keeps what went wrong."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__()
        self.server, self.rng = server, random.Random(seed)
        self.wrong: list[str] = []

    def run(self) -> None:
        for _ in range(ROUNDS):
            self.once()

    def once(self) -> None:
        """One round."""


class Good(Client):
    """Single records and batches, on a connection that stays."""

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as self.connection:
            super().run()

    def once(self) -> None:
        key = self.rng.choice(KEYS)
        answer = self.server.ask_on(self.connection, "GET", path_of("s", key), None, BEARER)
        if (answer.status, answer.body) != (200, EXPECTED[key]):
            self.wrong.append(f"{key}: {answer.status}")
        keys = self.rng.choices(KEYS, k=self.rng.randrange(1, 30))
        batch = self.server.ask_on(self.connection, "POST", "/v1/stores/s/records", {"keys": keys}, BEARER)
        expected = b"".join(struct.pack("<IIQ", 1, 0, len(EXPECTED[key])) + EXPECTED[key] for key in keys)
        end = struct.pack("<IIQQQ", 0xE0F, 0, 8, len(keys), 0)
        if (batch.status, batch.body) != (200, expected + end):
            self.wrong.append(f"{len(keys)} keys: {batch.status}")


class Rude(Client):
    """Goes away in the middle, or does not read."""

    def once(self) -> None:
        key = self.rng.choice(KEYS)
        head = f"GET {path_of('s', key)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        body = json.dumps({"keys": KEYS}).encode()
        post = f"POST /v1/stores/s/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
        post += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        data = self.rng.choice([head * 20, post * 5, head[:-20], post[:-30], b"\x16\x03\x01 nonsense\r\n\r\n"])
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.server.port), 60)) as connection:
            connection.sendall(data)
            if data.startswith((head * 20, post * 5)) and self.rng.random() < 0.5:
                connection.recv(100)


class Wrong(Client):
    """Asks for what there is not, or what it may not."""

    def once(self) -> None:
        for method, path, body, headers, status in (
            ("GET", path_of("s", KEYS[0]), None, {}, 401),
            ("GET", path_of("s", KEYS[0]), None, {"authorization": "Bearer nothing-that-fits"}, 401),
            ("GET", path_of("s", f"nobody-{self.rng.random()}"), None, BEARER, 404),
            ("GET", f"/v1/stores/other/{self.rng.random()}", None, BEARER, 404),
            ("POST", "/v1/stores/s/records", {"keys": ["a"] * 101}, BEARER, 413),
            ("POST", "/v1/stores/s/records", {"keys": ["a" * 40_000]}, BEARER, 413),
            ("POST", "/v1/stores/s/records", b"{", {**BEARER, "content-type": "application/json"}, 400),
        ):
            try:
                found = self.server.ask(method, path, body, headers).status
            except (BrokenPipeError, ConnectionResetError):  # a body that is too long is not read to its end
                found = 413
            if found != status:
                self.wrong.append(f"{method} {path[:60]}: {found}, expected {status}")


def test_good_requests_are_answered_whatever_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "EVERY", 0.01)
    path = make_store(tmp_path / "s", "lmdb", 40)
    others = [make_store(tmp_path / f"n{number}", ("hdf5", "lmdb")[number % 2], 40) for number in range(4)]
    with serving(Mounts.of(s=path), token=TOKEN, max_keys=100, max_body=30_000) as server:
        clients = [kind(server, seed) for seed, kind in enumerate((Good, Good, Good, Rude, Rude, Wrong))]
        for client in clients:
            client.start()
        for number, other in enumerate(others):
            path.rename(tmp_path / f"old{number}")
            other.rename(path)
            assert server.ask("GET", path_of("s", KEYS[number]), headers=BEARER).body == EXPECTED[KEYS[number]]
        for client in clients:
            client.join()
        assert [wrong for client in clients for wrong in client.wrong] == []
        counted = server.ask("GET", "/metrics", headers=BEARER).body.decode()
    assert 'status="500"' not in counted
