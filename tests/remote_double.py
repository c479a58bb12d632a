"""A small server of stores, by the routes of docs/serving.md, that misbehaves when it is told to.

It shares nothing with the real one but the framing, of which the bytes are pinned elsewhere.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from featx.codec import store_key
from featx.errors import FeatxError, StoreDamaged
from featx.store import StoreReader, open_store
from featx.store.remote.framing import DAMAGED, MEDIA_TYPE, MISSING, RECORD, Frame, framed, told


class Reply:
    """What is about to be sent; a fault changes it."""

    def __init__(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.status, self.body = status, body
        self.headers = {"Content-Type": kind}
        self.length: int | None = len(body)  # that is announced; None: chunked
        self.end = ""  # how the connection ends after it: "", "close" or "reset"
        self.raw: bytes | None = None  # in place of all of it
        self.wait: threading.Event | None = None  # before the last half of the body


Fault = Callable[[Reply], None]


def cut(reply: Reply) -> None:
    """Only half of the body comes."""
    reply.body, reply.end = reply.body[: len(reply.body) // 2], "close"


def reset(reply: Reply) -> None:
    """The connection is reset without a word."""
    reply.raw, reply.end = b"", "reset"


def garbage(reply: Reply) -> None:
    """Something that is no HTTP."""
    reply.raw, reply.end = b"\x16\x03\x01 what is this\r\n\r\n", "close"


def closing(reply: Reply) -> None:
    """A good answer, after which the connection is closed without a word about it."""
    reply.end = "close"


def chunked(reply: Reply) -> None:
    """A good answer, in pieces of no announced length."""
    reply.length = None


def flipped(at: int) -> Fault:
    """One bit of the body is another."""

    def fault(reply: Reply) -> None:
        body = bytearray(reply.body)
        body[at] ^= 4
        reply.body = bytes(body)

    return fault


def status(code: int, retry_after: str | None = None) -> Fault:
    """Another status, with an error in the body."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body = code, json.dumps({"error": {"code": "x", "message": "so so", "hint": ""}}).encode()
        reply.length = len(reply.body)
        reply.headers = {"Content-Type": "application/json"} | ({"Retry-After": retry_after} if retry_after else {})

    return fault


def body(data: bytes, kind: str | None = None, code: int = 200) -> Fault:
    """Another body."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body, reply.length = code, data, len(data)
        if kind is not None:
            reply.headers["Content-Type"] = kind

    return fault


def announced(size: int) -> Fault:
    """A length that lies."""

    def fault(reply: Reply) -> None:
        reply.length, reply.end = size, "close"

    return fault


def header(name: str, value: str) -> Fault:
    """One more header."""

    def fault(reply: Reply) -> None:
        reply.headers[name] = value

    return fault


class Double:
    """Serves readers under names, at ``url``. ``faults`` of the next answers, one each, to what ``on`` accepts."""

    def __init__(self, stores: Mapping[str, StoreReader], token: str | None = None, most_keys: int = 256) -> None:
        self.stores, self.token, self.most_keys = dict(stores), token, most_keys
        self.faults: deque[Fault | None] = deque()
        self.on: Callable[[str, str], bool] = lambda method, path: True
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections = 0
        self.tell_digest = True
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    port = 0

    def answer(self, method: str, target: str, data: bytes, headers: Mapping[str, str]) -> Reply:
        with self.lock:
            self.asked.append((method, target))
            self.headers.append(headers)
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            return error(401, "unauthorized", "a token is wanted")
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        steps = parts.path.removeprefix("/v1/stores").split("/", 3)
        if len(steps) < 2 or not steps[1]:
            return Reply(200, json.dumps({"stores": [self.line(name) for name in self.stores]}).encode())
        store = self.stores.get(unquote(steps[1]))
        if store is None:
            return error(404, "no_such_store", f"there is no store {steps[1]}", f"there are {', '.join(self.stores)}")
        reply = self.of_store(method, store, steps[2:], query, data)
        if self.tell_digest and store.manifest.totals:
            reply.headers["featx-digest"] = store.manifest.totals.digest
        return reply

    def line(self, name: str) -> dict[str, Any]:
        store = self.stores[name]
        return {"name": name, "records": len(store), "complete": store.manifest.complete}

    def of_store(
        self, method: str, store: StoreReader, steps: list[str], query: Mapping[str, str], data: bytes
    ) -> Reply:
        limit = int(query.get("limit", 100))
        match steps:
            case []:
                reply = Reply(200, store.manifest.document())
                reply.headers["featx-max-keys"] = str(self.most_keys)
                return reply
            case ["parts"]:
                return Reply(200, json.dumps({"parts": [json.loads(part.document()) for part in store.parts]}).encode())
            case ["failures"]:
                first = int(query.get("after", 0))
                rows = [row._asdict() for row in islice(store.failures(), first, first + limit)]
                following = first + limit if len(rows) == limit else None
                return Reply(200, json.dumps({"failures": rows, "next": following}).encode())
            case ["keys"]:
                keys = list(store.keys("source" if query.get("order") == "source" else "key"))
                first = 1 + keys.index(query["after"]) if query.get("after") in keys else 0
                page = keys[first : first + limit]
                more = page[-1] if first + limit < len(keys) else None
                return Reply(200, json.dumps({"keys": page, "next": more}).encode())
            case ["records"] if method == "POST":
                return self.records(store, json.loads(data))
            case ["records", key]:
                found = store.find(store_key(unquote(key)))
                if found is None:
                    return error(404, "not_found", "there is no such record")
                return Reply(200, bytes(found), "application/vnd.featx.record")
        return error(404, "not_found", "there is nothing here")

    def records(self, store: StoreReader, asked: Mapping[str, Any]) -> Reply:
        with self.lock:
            self.bodies.append(asked)
        if len(asked["keys"]) > self.most_keys:
            reply = error(413, "too_many_keys", "too many keys")
            reply.headers["featx-max-keys"] = str(self.most_keys)
            return reply
        frames = [frame_of(store, key, 48 if asked.get("only") == "headers" else None) for key in asked["keys"]]
        return Reply(200, b"".join(framed(frames)), MEDIA_TYPE)


def frame_of(store: StoreReader, key: str, size: int | None) -> Frame:
    try:
        found = store.find(store_key(key))
    except StoreDamaged:
        return told(DAMAGED, key, "it is damaged")
    except FeatxError as problem:
        return told(MISSING, key, problem.message)
    return told(MISSING, key, "not there") if found is None else Frame(RECORD, found[:size])


def error(code: int, word: str, message: str, hint: str = "") -> Reply:
    return Reply(code, json.dumps({"error": {"code": word, "message": message, "hint": hint}}).encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    double: Double

    def setup(self) -> None:
        super().setup()
        with self.double.lock:
            self.double.connections += 1

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is printed."""

    def serve(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.double.answer(self.command, self.path, data, self.headers)
        with self.double.lock:
            fault = None
            if self.double.faults and self.double.on(self.command, self.path):
                fault = self.double.faults.popleft()
        if fault is not None:
            fault(reply)
        self.send(reply)

    do_GET = do_HEAD = do_POST = serve  # noqa: N815

    def send(self, reply: Reply) -> None:
        if reply.raw is None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.length is None:
                self.send_header("Transfer-Encoding", "chunked")
                step = max(1, len(reply.body) // 3)
                pieces = [reply.body[at : at + step] for at in range(0, len(reply.body), step)]
                reply.body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            else:
                self.send_header("Content-Length", str(reply.length))
            self.end_headers()
        else:
            self.wfile.write(reply.raw)
        if self.command != "HEAD" and reply.raw is None:
            half = len(reply.body) // 2 if reply.wait else 0
            self.wfile.write(reply.body[:half])
            if reply.wait:
                self.wfile.flush()
                reply.wait.wait(30)
            self.wfile.write(reply.body[half:])
        if reply.end == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = self.close_connection or bool(reply.end)
        if reply.end == "reset":
            self.connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double behind a port of its own, until the end."""
    handler = type("Bound", (Handler,), {"double": double})
    with Server(("127.0.0.1", 0), handler) as server:
        double.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield double
        finally:
            server.shutdown()
            thread.join()


def served(path: Path, **options: Any) -> Double:
    """A double of one store, called ``s``."""
    return Double({"s": open_store(path, partial=True)}, **options)
