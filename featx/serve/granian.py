"""The same application run by granian, whose loop of sockets is compiled."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Callable
from functools import partial
from math import ceil
from time import sleep
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.serve.listener import BACKLOG
from featx.serve.plan import Plan, application
from featx.serve.process import begin_log
from featx.serve.workers import counting

LOOK = 0.05  # seconds between two tries to connect, until somebody listens


def run_granian(plan: Plan, port: int, announce: Callable[[], object]) -> None:
    """Serve until SIGTERM or SIGINT. ``announce`` is called when the first of its processes listens."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops

    settings = plan.settings
    multiprocessing.set_start_method("spawn", force=True)  # forking a process that has threads is no safe thing to do
    server: Any = Granian(
        "featx", settings.host, port, interface=Interfaces.ASGI, workers=settings.workers, loop=Loops.uvloop,
        http=HTTPModes.http1, websockets=False, backlog=BACKLOG, log_enabled=False, respawn_failed_workers=True,
        workers_kill_timeout=max(1, ceil(settings.drain)),
    )  # fmt: skip
    threading.Thread(target=_told, args=(settings.host, port, announce), daemon=True).start()
    with counting():
        server.serve(target_loader=partial(loaded, plan), wrap_loader=False)


def _told(host: str, port: int, announce: Callable[[], object]) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            sleep(LOOK)
        else:
            break
    announce()


def loaded(plan: Plan) -> ASGIApp:
    """The application in a process of granian."""
    begin_log(plan.settings.quiet)
    return copied(application(plan))


def copied(app: ASGIApp) -> ASGIApp:
    """``app`` whose bodies are bytes: granian takes nothing else."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if isinstance(message.get("body"), memoryview):
                message["body"] = bytes(message["body"])
            await send(message)

        await app(scope, receive, sent)

    return called
