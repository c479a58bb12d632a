"""One process of a server, run by uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from socket import socket
from time import monotonic
from typing import Any

import uvicorn
from starlette.applications import Starlette

from featx.serve.door import Door, compiled
from featx.serve.guard import Gone
from featx.serve.lane import LaneProtocol, lane_of
from featx.serve.listener import BACKLOG
from featx.serve.plan import Plan, application
from featx.serve.settings import Settings

KEEP_ALIVE = 75  # seconds that a connection may wait for its next request
LOOK = 0.02  # seconds between two looks at whether all answers are written


class Process(uvicorn.Server):
    """uvicorn's server, which ends by itself when it is told to: a signal is an order here, not an accident.

    announce: called once it serves. door: accepts connections; None: the loop does.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object], door: Door | None) -> None:
        super().__init__(config)
        self._announce, self._door = announce, door

    async def startup(self, sockets: list[socket] | None = None) -> None:
        if self._door is None or sockets is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            (listener,) = sockets
            self._door.open(listener, self._receive)
        self._announce()

    def _receive(self, first: bytes) -> asyncio.Protocol:
        """What reads a connection of which ``first`` was read already."""
        made: Any = self.config.http_protocol_class
        protocol: LaneProtocol = made(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )  # fmt: skip
        protocol.first = first
        return protocol

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        if self._door is None:
            return await super().shutdown(sockets)
        await self._door.shut()
        await asyncio.gather(super().shutdown(sockets), self._drain(self._door))

    async def _drain(self, door: Door) -> None:
        latest = monotonic() + (self.config.timeout_graceful_shutdown or 0)
        while door.left and monotonic() < latest and not self.force_exit:
            await asyncio.sleep(LOOK)
        await door.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def process(app: Starlette, settings: Settings, announce: Callable[[], object] = lambda: None) -> Process:
    """The process; ``run(sockets=[...])`` serves until a signal, and then ends what is under way."""
    native = compiled()
    return Process(
        uvicorn.Config(
            app, http=lane_of(app), ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
            server_header=False, date_header=False, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=settings.drain,  # type: ignore[arg-type]  # it takes parts of a second
        ),
        announce,
        None if native is None else Door(native, app, KEEP_ALIVE),
    )  # fmt: skip


def begin_log(quiet: bool) -> None:
    """Let the server's words go to stderr, and uvicorn's but for what is said already."""
    own, theirs = logging.getLogger("featx"), logging.getLogger("uvicorn.error")
    if not own.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("featx: %(message)s"))
        own.addHandler(handler)
        theirs.addHandler(handler)
    own.setLevel(logging.WARNING if quiet else logging.INFO)
    own.propagate = theirs.propagate = False
    theirs.setLevel(logging.ERROR)
    theirs.addFilter(_worth_saying)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the client is told what is wrong with its form


def _worth_saying(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, Gone)


def work(plan: Plan, listener: socket) -> None:
    """A worker: serve at a socket that is shared with others, and end when the parent does."""
    begin_log(plan.settings.quiet)
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def follow() -> None:
            connection.wait([sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()
    process(application(plan), plan.settings).run(sockets=[listener])
