"""Many workers and the parts of one list as a model: workers take part after part, are of different speed, and die.

A worker that dies begins anew after a while and goes on with its part where the last commit was; a poison picture kills
the one that has it in hand twice, and is refused then. Time jumps from one taking of a part to the next.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

DEATHS_OF_POISON = 2


@dataclass(frozen=True)
class Fleet:
    """seconds: a picture takes a worker of speed 1; start: seconds from nothing to the first picture; mean_life:
    seconds between two deaths of a worker, on the average (exponential); in_hand: pictures that a death loses;
    spread: of the workers' speed (lognormal); slow: share of workers that need ``slowness`` times as long; poison:
    pictures of which one kills."""

    workers: int
    pictures: int
    parts: int
    seconds: float
    start: float = 60.0
    mean_life: float = math.inf
    in_hand: int = 0
    spread: float = 0.0
    slow: float = 0.0
    slowness: float = 1.0
    poison: float = math.inf


@dataclass
class Outcome:
    """hours: until the last part; busy: share of the workers' time in which pictures were computed that counted;
    deaths, of which poison; again: pictures computed once more; interrupted: parts that a death was in; tail: hours in
    which some worker had no part left; ends: seconds at which each worker ended."""

    hours: float
    busy: float
    deaths: int
    poison: int
    again: int
    interrupted: int
    tail: float
    ends: list[float]


def simulate(fleet: Fleet, seed: int = 0) -> Outcome:
    """One run."""
    draw = random.Random(seed)
    speeds = [_pace(fleet, draw) for _ in range(fleet.workers)]
    free = [(fleet.start, worker) for worker in range(fleet.workers)]
    heapq.heapify(free)
    death = [_life(fleet, draw) for _ in speeds]
    ends = [0.0] * fleet.workers
    deaths = killed = again = interrupted = 0
    useful = 0.0
    for part in range(fleet.parts):
        now, worker = heapq.heappop(free)
        count = fleet.pictures * (part + 1) // fleet.parts - fleet.pictures * part // fleet.parts
        each = fleet.seconds * speeds[worker]
        left = count * each
        useful += left
        poisons = _poisson(count / fleet.poison, draw)
        lost = poisons * min(
            fleet.in_hand, count
        )  # the second time a poison is alone in hand, and nothing else is lost
        now += DEATHS_OF_POISON * poisons * fleet.start
        killed, again, left, hit = killed + DEATHS_OF_POISON * poisons, again + lost, left + lost * each, poisons > 0
        while death[worker] < now + left:
            done = max(0.0, death[worker] - now)
            lost = min(fleet.in_hand, int(done / each))
            left = left - done + lost * each
            again, deaths, hit = again + lost, deaths + 1, True
            now = max(now, death[worker]) + fleet.start
            death[worker] = now + _life(fleet, draw)
        interrupted += hit
        ends[worker] = now + left
        heapq.heappush(free, (ends[worker], worker))
    last = max(ends)
    tail = last - min(ends)
    return Outcome(
        last / 3600, useful / (last * fleet.workers), deaths + killed, killed, again, interrupted, tail / 3600, ends
    )


def _pace(fleet: Fleet, draw: random.Random) -> float:
    """How many times the normal time a worker needs."""
    return draw.lognormvariate(0.0, fleet.spread) * (fleet.slowness if draw.random() < fleet.slow else 1.0)


def _life(fleet: Fleet, draw: random.Random) -> float:
    return math.inf if math.isinf(fleet.mean_life) else draw.expovariate(1 / fleet.mean_life)


def _poisson(mean: float, draw: random.Random) -> int:
    """A Poisson number: how many arrivals of rate 1 there are in ``mean``."""
    at, count = draw.expovariate(1.0), 0
    while at < mean:
        at, count = at + draw.expovariate(1.0), count + 1
    return count
