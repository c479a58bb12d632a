"""Servers for tests: an application at a socket of its own, in a thread; and what the oracle says that it must send."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from featx.codec import encode, store_key
from featx.schema import Schema
from featx.serve.app import make_app
from featx.serve.extension import Extension
from featx.serve.listener import listen
from featx.serve.mounted import Mounts
from featx.serve.process import process
from featx.serve.settings import Settings
from tests.store_oracle import KINDS, REFUSED, make_store, names, record_of

COUNT = 40
KEYS = [key for number, key in enumerate(names(COUNT)) if number % REFUSED != REFUSED - 1]
REFUSALS = [key for key in names(COUNT) if key not in KEYS]


def bytes_of(key: str, schema: Schema, count: int = COUNT) -> bytes:
    """The stored bytes of a record of the oracle's store, made anew."""
    return encode(record_of(key, schema), schema, store_key(key), names(count).index(key))


def make_stores(folder: Path) -> dict[str, Path]:
    """A store of each kind, of two parts."""
    return {
        kind: make_store(folder / f"{kind}.featx", backend, COUNT, parts=2, schema=schema)
        for kind, (backend, schema) in KINDS.items()
    }


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Server:
    """A server that runs."""

    port: int
    mounts: Mounts
    token: str | None = None

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own. A body that is no bytes is sent as JSON."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            return self.ask_on(connection, method, path, body, headers)

    def ask_on(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """One request on ``connection``."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {"content-type": "application/json", **sent}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())


def path_of(store: str, key: str) -> str:
    """Where a record is."""
    return f"/v1/stores/{store}/records/{quote(key, safe='')}"


@contextmanager
def serving(mounts: Mounts, extensions: tuple[Extension, ...] = (), **settings: Any) -> Iterator[Server]:
    """Serve ``mounts`` by uvicorn, as ``featx serve`` does, until the block ends."""
    chosen = Settings(**{"port": 0, "drain": 5.0, **settings})
    with listen("127.0.0.1", 0, chosen.timeout) as listener:
        server = process(make_app(chosen, mounts, extensions), chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Server(listener.getsockname()[1], mounts)
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()
