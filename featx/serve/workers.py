"""Several processes at one socket. One that dies is started again; all end when the parent is told to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from shutil import rmtree
from socket import socket, socketpair
from time import monotonic

from featx.errors import FeatxError
from featx.serve.plan import Plan
from featx.serve.problems import log
from featx.serve.process import work

YOUNG = 5.0  # seconds: one that lives no longer failed at its start
FAILURES = 3  # of each worker in a row, after which starting it again is of no use
MARGIN = 5.0  # seconds beyond the time for draining
METRICS = "PROMETHEUS_MULTIPROC_DIR"


def run_workers(plan: Plan, listener: socket, announce: Callable[[], object]) -> None:
    """Serve until SIGTERM or SIGINT; ``announce`` is called when they are heeded.

    Raises FeatxError when the workers die as they start.
    """
    multiprocessing.allow_connection_pickling()
    with counting(), _told() as wake:
        found = _Workers(plan, listener)
        try:
            announce()
            while not found.look(wake):
                pass
        finally:
            listener.close()  # whoever connects now is refused, and does not wait for nothing
            found.end(plan.settings.drain + MARGIN)


class _Workers:
    def __init__(self, plan: Plan, listener: socket) -> None:
        self._plan, self._listener = plan, listener
        self._failures = 0
        self._all: dict[SpawnProcess, float] = {}
        for _ in range(plan.settings.workers):
            self._start()

    def _start(self) -> None:
        worker = multiprocessing.get_context("spawn").Process(target=work, args=(self._plan, self._listener))
        worker.start()
        self._all[worker] = monotonic()

    def look(self, wake: socket) -> bool:
        """Wait for a signal (True), or for the end of a worker, and start another."""
        ready = connection.wait([wake, *(worker.sentinel for worker in self._all)])
        if wake in ready:
            return True
        for worker in [worker for worker in self._all if worker.sentinel in ready]:
            worker.join()
            young = monotonic() - self._all.pop(worker) < YOUNG
            self._failures = self._failures + 1 if young else 0
            if self._failures >= FAILURES * self._plan.settings.workers:
                raise FeatxError("the server's processes die as they start", "what they say is above; try --workers 1")
            log.warning("process %s ended with %s; another takes its place", worker.pid, worker.exitcode)
            self._start()
        return False

    def end(self, seconds: float) -> None:
        for worker in self._all:
            worker.terminate()
        latest = monotonic() + seconds
        for worker in self._all:
            worker.join(max(0.0, latest - monotonic()))
            if worker.is_alive():
                log.warning("process %s does not end, and is killed", worker.pid)
                worker.kill()
                worker.join()


@contextmanager
def _told() -> Iterator[socket]:
    """A socket that can be read once a signal to end has come."""
    ours, theirs = socketpair()
    theirs.setblocking(False)

    def tell(number: int, frame: object) -> None:
        with suppress(BlockingIOError):
            theirs.send(b"!")

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()


@contextmanager
def counting() -> Iterator[Path]:
    """A folder in which the processes count what they do (prometheus-client), gone when they are."""
    before = os.environ.get(METRICS)
    folder = Path(tempfile.mkdtemp(prefix="featx-metrics-"))
    os.environ[METRICS] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ[METRICS]
        else:
            os.environ[METRICS] = before
        rmtree(folder, ignore_errors=True)
