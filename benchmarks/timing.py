"""Timing that can be believed: warm-up, repeats, medians with spread, and how much everything else interfered."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece: median, best and worst of ``runs``.

    ``others`` is the share of CPU that other processes used meanwhile; None where it was too short to tell.
    """

    median: float
    best: float
    worst: float
    runs: int
    others: float | None


def measure(work: Callable[[], Any], runs: int = 5, warm: int = 1) -> Timing:
    """Time ``work`` after ``warm`` calls that do not count."""
    for _ in range(warm):
        work()
    times, begin_cpu, begin = [], _busy(), time.perf_counter()
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    others = _share(_busy() - begin_cpu, time.perf_counter() - begin)
    return Timing(statistics.median(times), min(times), max(times), runs, others)


def interleaved(pieces: dict[str, Callable[[], Any]], runs: int = 5) -> dict[str, Timing]:
    """Time several pieces turn by turn, so that a slow minute of the machine hits all of them alike."""
    for work in pieces.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in pieces}
    busy: dict[str, float] = dict.fromkeys(pieces, 0.0)
    for _ in range(runs):
        for name, work in pieces.items():
            before, start = _busy(), time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
            busy[name] += max(0.0, _busy() - before)
    return {
        name: Timing(statistics.median(t), min(t), max(t), runs, _share(busy[name], sum(t)))
        for name, t in times.items()
    }


def _share(seconds: float, wall: float) -> float | None:
    """CPU seconds of others as a share of all there was; the clock ticks in hundredths, so not for short pieces."""
    return max(0.0, seconds) / (wall * (os.cpu_count() or 1)) if wall >= 0.3 else None


def _busy() -> float:
    """CPU seconds that all processes but this one have used so far (0 where the system does not tell)."""
    try:
        with Path("/proc/stat").open() as file:
            user, nice, system = (int(v) for v in file.readline().split()[1:4])
    except OSError:
        return 0.0
    used = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - used.user - used.system


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def save(name: str, results: dict[str, Any]) -> Path:
    """Write ``results/NAME.json`` with what the machine was."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **_plain(results)}, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Processor, threads and libraries: what a ratio depends on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    cpu = torch.backends.cpu.get_cpu_capability()
    return {"cpu": model, "isa": cpu, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _plain(value: Any) -> Any:
    if isinstance(value, Timing):
        return {k: None if v is None else round(v, 6) for k, v in asdict(value).items()}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return round(value, 6) if isinstance(value, float) else value
