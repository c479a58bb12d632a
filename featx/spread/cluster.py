"""Actors on a Ray cluster that somebody has: one for each worker, spread over its nodes, with a GPU each if asked for.

Ray runs the calls of such an actor in the main thread of its process, where Ctrl-C would arrive; nothing of a terminal
reaches another machine, so a bell, an actor without a task, is listened to by a thread of every worker.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from featx.errors import MissingDependency, UsageError
from featx.spread.crew import Crew, Worker
from featx.spread.task import Build, Outcome, Task


class Bell:
    """Rung once: finish the batch; twice: stop at once."""

    def __init__(self) -> None:
        self._rung = 0
        self._changed = asyncio.Condition()

    async def ring(self) -> None:
        """Ring it."""
        async with self._changed:
            self._rung += 1
            self._changed.notify_all()

    async def heard(self, before: int) -> int:
        """How often it was rung, as soon as that is more than ``before``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._rung > before)
            return self._rung


class Actor:
    """A worker on some node."""

    def __init__(self, bell: Any, threads: int) -> None:
        from featx.spread.worker import limit

        limit(threads)
        threading.Thread(target=self._listen, args=(bell,), name="featx-bell", daemon=True).start()

    def _listen(self, bell: Any) -> None:
        import ray

        rung = 0
        with suppress(Exception):  # without a bell it cannot be asked to stop, but works
            while True:
                rung = ray.get(bell.heard.remote(rung))
                _thread.interrupt_main()

    def build(self, what: Build) -> Outcome:
        """Make the extractor, and keep it."""
        from featx.spread.worker import build

        return build(what)

    def do(self, task: Task) -> Outcome:
        """Do a part."""
        from featx.spread.worker import do

        return do(task)


class Cluster(Crew):
    """At most ``jobs`` actors (None: as many as the cluster has places), each with ``gpus`` GPUs or else one core.

    address: of the cluster; None: the one that this machine is part of, or to which the program is connected. Raises
    MissingDependency without Ray, UsageError without a cluster.
    """

    def __init__(self, jobs: int | None, gpus: int = 0, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise MissingDependency("--executor ray needs Ray", "pip install 'featx[ray]'") from None
        self._ray, self._gpus = ray, gpus
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address)
        places = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        self.size = jobs or places
        if not places:
            self.close()
            raise UsageError(f"the cluster has no {'GPU' if gpus else 'core'}", "look at `ray status`")
        here = ray.get_runtime_context().get_node_id()
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
        self.bell = ray.remote(Bell).options(num_cpus=0, scheduling_strategy=pinned).remote()
        self.rung = 0

    def hire(self, build: Build) -> Worker:
        return _Actor(self, replace(build, device=self.device))

    @property
    def device(self) -> str | None:
        """What an actor computes on: Ray shows each only the GPU that is its own."""
        return "cuda:0" if self._gpus else None

    def actor(self) -> Any:
        """A new actor; Ray starts it where there is a place, as soon as there is one."""
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_restarts": 0, "max_task_retries": 0}
        return self._ray.remote(Actor).options(scheduling_strategy="SPREAD", **options).remote(self.bell, 1)

    def ring(self, times: int) -> None:
        """Ring until the bell was rung so often."""
        if self.rung < times:
            self.rung = times
            self._ray.get(self.bell.ring.remote())

    def kill(self, actor: Any) -> None:
        """End an actor, whatever it is at."""
        with suppress(Exception):
            self._ray.kill(actor)

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()


class _Actor(Worker):
    def __init__(self, crew: Cluster, build: Build) -> None:
        self._crew, self._asked = crew, 0
        self._device = build.device
        self._actor = crew.actor()
        self.ready: Future[Outcome] = self._actor.build.remote(build).future()

    def do(self, task: Task) -> Future[Outcome]:
        own = replace(task, build=replace(task.build, device=self._device))
        future: Future[Outcome] = self._actor.do.remote(own).future()
        return future

    def stop(self) -> None:
        self._asked += 1
        with suppress(Exception):
            self._crew.ring(self._asked)

    def end(self, *, now: bool = False) -> None:
        self._crew.kill(self._actor)


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address or "auto", logging_level="error", log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"at {address}" if address else "that this machine is part of"
        raise UsageError(
            f"there is no Ray cluster {where}: {str(error).splitlines()[0]}",
            "start one with `ray start --head`, or give --ray-address",
        ) from None
