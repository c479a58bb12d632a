"""One process of a server, run by uvicorn."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from socket import socket

import uvicorn
from starlette.applications import Starlette

from featx.serve.guard import Gone
from featx.serve.lane import lane_of
from featx.serve.listener import BACKLOG
from featx.serve.plan import Plan, application
from featx.serve.settings import Settings

KEEP_ALIVE = 75  # seconds that a connection may wait for its next request


class Process(uvicorn.Server):
    """uvicorn's server, which ends by itself when it is told to: a signal is an order here, not an accident.

    announce: called once it serves.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

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
    return Process(
        uvicorn.Config(
            app, http=lane_of(app), ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
            server_header=False, date_header=False, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=settings.drain,  # type: ignore[arg-type]  # it takes parts of a second
        ),
        announce,
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
