"""Processes of this machine, started by joblib's loky: fresh interpreters, none of them forked.

Every worker has an executor of its own. One for all would be broken by the first process that dies, and loky ends the
others then: each of them would leave pictures that look as if it had died of them (``store.flight``).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor

from featx.spread.crew import Crew, Worker
from featx.spread.task import Build, Outcome, Task
from featx.spread.worker import build as build_in_worker
from featx.spread.worker import do as do_in_worker
from featx.spread.worker import settle

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Processes(Crew):
    """At most ``jobs`` processes that share the cores; with ``devices`` each of them has one."""

    def __init__(self, jobs: int, devices: Sequence[str] = ()) -> None:
        self.size = len(devices) or jobs
        self.threads = max(1, cpu_count() // self.size)
        self._free = list(devices)

    def hire(self, build: Build) -> Worker:
        device = self._free.pop(0) if self._free else None
        return _Process(self, replace(build, device=device), _environment(self.threads))

    def give_back(self, device: str | None) -> None:
        """A device whose process is gone."""
        if device is not None:
            self._free.append(device)

    def close(self) -> None:
        """Every worker has an end of its own."""

    def why(self, error: BaseException) -> str:
        codes = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
        return codes[1] if codes else super().why(error)


class _Process(Worker):
    def __init__(self, crew: Processes, build: Build, environment: dict[str, str]) -> None:
        self._crew, self._device = crew, build.device
        self._executor: ProcessPoolExecutor | None = ProcessPoolExecutor(
            1, initializer=settle, initargs=(os.getpid(), crew.threads), env=environment
        )
        # A signal that comes before the process is settled would end it with a traceback; it begins with our mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._pid: Future[int] = self._executor.submit(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.ready = self._executor.submit(build_in_worker, build)

    def do(self, task: Task) -> Future[Outcome]:
        assert self._executor is not None
        own = replace(task, build=replace(task.build, device=self._device))
        future: Future[Outcome] = self._executor.submit(do_in_worker, own)
        return future

    def stop(self) -> None:
        self._send(signal.SIGINT)

    def _send(self, number: signal.Signals) -> None:
        with suppress(Exception):  # the process may be gone, or never have come
            os.kill(self._pid.result(timeout=0), number)

    def end(self, *, now: bool = False) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        if now:
            self._send(signal.SIGKILL)
        executor.shutdown(wait=True, kill_workers=now)
        self._crew.give_back(self._device)


def _environment(threads: int) -> dict[str, str]:
    """Threads of the libraries; fewer where somebody asked for fewer."""
    asked = {name: os.environ.get(name, "") for name in _THREADS}
    return {name: str(min(threads, int(said)) if said.isdigit() else threads) for name, said in asked.items()}
