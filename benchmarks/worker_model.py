"""Workers of one machine as a model: threads that decode, a network, a thread that writes, bounded queues between them,
and cores that all of them share.

Queues are those of ``featx.runner``: a window of pictures that are decoded ahead, batches, and a writer that commits
all that wait at once. A piece of work is seconds of processor time, then seconds of waiting (a device, a disk). Whoever
computes gets an equal share of the cores, at most one each. Time jumps from one end of a piece to the next.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

AHEAD, WAITING = 4, 16  # as in featx.runner.batches and featx.runner.writing


@dataclass(frozen=True)
class Work:
    """Seconds of processor time and of waiting."""

    cpu: float = 0.0
    wait: float = 0.0

    def times(self, count: int) -> Work:
        """So many of them, one after the other."""
        return Work(self.cpu * count, self.wait * count)


@dataclass(frozen=True)
class Stages:
    """What a picture costs in each stage, and a commit beside its pictures."""

    decode: Work
    network: Work
    put: Work
    commit: Work
    threads: int = 2
    batch: int = 1


@dataclass
class Clock:
    """Pieces of work under way on ``cores``; each calls its function when it is done."""

    cores: float
    now: float = 0.0
    served: float = 0.0  # processor seconds that each computing piece has had so far, were it here from the start
    _computing: list[tuple[float, int, float, Callable[[], None]]] = field(default_factory=list)
    _waiting: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def begin(self, work: Work, done: Callable[[], None]) -> None:
        """Begin a piece of work."""
        self._count += 1
        heapq.heappush(self._computing, (self.served + work.cpu, self._count, work.wait, done))

    def run(self) -> None:
        """Until nothing is under way."""
        while self._computing or self._waiting:
            share = min(1.0, self.cores / len(self._computing)) if self._computing else 0.0
            computed = self.now + (self._computing[0][0] - self.served) / share if share else float("inf")
            waited = self._waiting[0][0] if self._waiting else float("inf")
            at = max(self.now, min(computed, waited))
            self.served += (at - self.now) * share
            self.now = at
            if waited <= computed:
                heapq.heappop(self._waiting)[2]()
            else:
                _, number, wait, done = heapq.heappop(self._computing)
                heapq.heappush(self._waiting, (at + wait, number, done))


class Worker:
    """One worker and its pictures."""

    def __init__(self, clock: Clock, stages: Stages, pictures: int) -> None:
        self.clock, self.stages, self.left, self.pictures = clock, stages, pictures, pictures
        self.window = stages.threads + AHEAD * stages.batch
        self.decoding = self.ready = self.computing = self.written = 0
        self.waiting: deque[int] = deque()
        self.writing = 0
        self.end = 0.0
        self.busy = {"decode": 0.0, "network": 0.0, "write": 0.0}
        self.step()

    def step(self) -> None:
        """Begin whatever can begin."""
        stages = self.stages
        while self.left and self.decoding < stages.threads and self.decoding + self.ready < self.window:
            self.left -= 1
            self.decoding += 1
            self._timed("decode", stages.decode, self._decoded)
        last = not self.left and not self.decoding
        if not self.computing and sum(self.waiting) < WAITING and (self.ready >= stages.batch or (last and self.ready)):
            count = self.computing = min(stages.batch, self.ready)
            self.ready -= count
            self._timed("network", stages.network.times(count), self._computed)
        if self.waiting and not self.writing:
            self.writing = sum(self.waiting)
            self.waiting.clear()
            put = stages.put.times(self.writing)
            work = Work(put.cpu + stages.commit.cpu, put.wait + stages.commit.wait)
            self._timed("write", work, self._wrote)

    def _timed(self, stage: str, work: Work, done: Callable[[], None]) -> None:
        begin = self.clock.now

        def finished() -> None:
            self.busy[stage] += self.clock.now - begin
            done()
            self.step()

        self.clock.begin(work, finished)

    def _decoded(self) -> None:
        self.decoding -= 1
        self.ready += 1

    def _computed(self) -> None:
        self.waiting.append(self.computing)
        self.computing = 0

    def _wrote(self) -> None:
        self.written += self.writing
        self.writing = 0
        self.end = self.clock.now


def seconds(stages: Stages, pictures: Sequence[int], cores: float) -> float:
    """How long workers with so many pictures each take on ``cores`` that they share."""
    clock = Clock(cores)
    workers = [Worker(clock, stages, count) for count in pictures]
    clock.run()
    assert all(worker.written == worker.pictures for worker in workers)
    return max(worker.end for worker in workers)


@cache
def rate(stages: Stages, cores: float, pictures: int = 2000) -> float:
    """Pictures a second of one worker, its beginning and end left out."""
    return pictures / (seconds(stages, [2 * pictures], cores) - seconds(stages, [pictures], cores))
