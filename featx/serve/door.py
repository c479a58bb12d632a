"""Where connections come in, when it is compiled (``csrc/lane``, Linux): a thread accepts them and answers plain
requests for one record out of the mapped files, without Python and its lock.

Whatever else a connection asks, it is handed to the loop together with what was read of it, and stays there; so every
rule is written once, in Python, and what the thread answers is what Python would have answered. The thread is told of
the stores as they are: when one is opened anew, at once; and somebody looks every second. What it serves stays mapped
until its last answer is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from threading import Lock
from typing import Any

from starlette.applications import Starlette

from featx.errors import FeatxError
from featx.serve import mounted as looks
from featx.serve.guard import SECURITY, Guard
from featx.serve.lane import PLAIN_ACCEPT, ROUTE, plain_head
from featx.serve.metrics import BUCKETS, Counts
from featx.serve.mounted import Mounted, Mounts
from featx.serve.problems import log
from featx.serve.records import AS_STORED
from featx.serve.settings import Settings
from featx.serve.spans import Spans
from featx.store.gather import Gather
from featx.store.native import reader

SHORTEST = 0.05  # seconds between two looks at the stores
_ANSWERED = (("GET", 200), ("HEAD", 200), ("GET", 304), ("HEAD", 304))  # as csrc/lane/served.h counts them

Receive = Callable[[bytes], asyncio.Protocol]  # first bytes of a connection -> what is to read it
Lines = Sequence[tuple[bytes, bytes]]


@lru_cache(maxsize=1)
def compiled() -> Any:
    """The module ``featx._lane``; None where it was not built, or Python is to run alone."""
    if sys.platform != "linux" or reader().module is None:
        return None
    try:
        return import_module("featx._lane")
    except ImportError:
        return None


class Door:
    """The connections of one process that have asked for nothing but records yet."""

    def __init__(self, native: Any, app: Starlette, keep_alive: float) -> None:
        self._native, self._keep_alive = native, keep_alive
        self._settings: Settings = app.state.settings
        self._mounts: Mounts = app.state.mounts
        self._counts: Counts = app.state.counts
        self._names = Guard(app, self._settings).names
        self._lane: Any = None
        self._told: dict[str, Spans] = {}
        self._lock = Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, listener: socket.socket, receive: Receive) -> None:
        """Accept connections at ``listener`` from now on. Raises OSError."""
        settings, self._receive, self._loop = self._settings, receive, asyncio.get_running_loop()
        listener.setblocking(False)
        self._lane = self._native.make(
            listener.fileno(), settings.timeout, self._keep_alive, tuple(sorted(self._names or ())),
            (settings.token or "").encode(), tuple(sorted(PLAIN_ACCEPT)), BUCKETS,
        )  # fmt: skip
        self._counts.sources.append(self.count)
        for mounted in self._mounts.stores.values():
            mounted.changed = partial(self._tell, mounted)
            self._tell(mounted)
        self._loop.add_reader(self._native.bell(self._lane), self._take)
        self._native.start(self._lane)
        self._follower = self._loop.create_task(self._follow())

    async def shut(self) -> None:
        """Accept nothing more; what was handed over by then is received."""
        await asyncio.to_thread(self._native.stop, self._lane)
        self._loop.remove_reader(self._native.bell(self._lane))
        self._follower.cancel()
        self._take()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def left(self) -> int:
        """Connections whose answer is being written."""
        return int(self._native.left(self._lane))

    async def close(self) -> None:
        """End what is left."""
        await asyncio.to_thread(self._native.end, self._lane)
        self.count()
        self._counts.sources.remove(self.count)

    def count(self) -> None:
        """Add what was answered since the last time to the counts of the process."""
        requests, sent, times, seconds = self._native.counted(self._lane)
        answered = {key: (n, size) for key, n, size in zip(_ANSWERED, requests, sent, strict=True) if n}
        if answered:
            self._counts.add(ROUTE, answered, times, seconds)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(max(looks.EVERY, SHORTEST))
            await asyncio.to_thread(self._look)
            self.count()

    def _look(self) -> None:
        for mounted in self._mounts.stores.values():
            try:
                with suppress(FeatxError):
                    _ = mounted.spans
                self._tell(mounted)
            except Exception as error:  # it is tried again, and so are the others: nobody may serve an old one for ever
                log.error("%s cannot be given to the compiled thread: %s", mounted.name, error)

    def _tell(self, mounted: Mounted) -> None:
        """Let the thread serve a store as it is."""
        with self._lock:
            spans = mounted.latest
            if spans is None or self._told.get(mounted.name) is spans:
                return
            name, gather = mounted.name.encode(), spans.reader.gathering
            if isinstance(gather, Gather):
                schema, shards, whole = gather.told  # addresses that hold as long as what gathers, not as the reader
                self._native.put(self._lane, name, schema, shards, whole, heads(spans), (spans, gather))
            else:
                self._native.remove(self._lane, name)
            self._told[mounted.name] = spans

    def _take(self) -> None:
        for file, first in self._native.taken(self._lane):
            task = self._loop.create_task(self._arrive(file, first))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _arrive(self, file: int, first: bytes) -> None:
        try:
            client = socket.socket(fileno=file)
        except OSError:
            os.close(file)
            return
        client.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(partial(self._receive, first), client)
        except OSError as error:
            log.debug("a connection was lost as it was handed over: %s", error)
            client.close()


def heads(spans: Spans) -> tuple[bytes, ...]:
    """The heads of answers as the lane and the application write them: what stands before the checksum, between it and
    the length, and behind. To a plain GET; to HEAD, and to GET with another ETag; where the ETag is the same."""
    whole = [*AS_STORED, *spans.headers]
    same = [line for line in whole if line[0] != b"content-type"]
    ranges, safe = b'"\r\n' + _text([(b"accept-ranges", b"bytes")]), _text(SECURITY) + b"\r\n"
    return (
        plain_head(spans) + b'etag: "', b'"\r\ncontent-length: ', b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + _text(whole) + b'etag: "', ranges + b"content-length: ", b"\r\n" + safe,
        b"HTTP/1.1 304 Not Modified\r\n" + _text(same) + b'etag: "', ranges, safe,
    )  # fmt: skip


def _text(lines: Lines) -> bytes:
    return b"".join(b"%b: %b\r\n" % line for line in lines)
