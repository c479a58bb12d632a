"""A long run of tiny pictures through the tiny network: does memory grow, does the rate sink, does resuming wait?

``COUNT`` pictures (100,000) are drawn once into ``build/endurance``; ``featx extract`` runs on them as a process of its
own and is watched from outside: what it says is durable, the memory that is its own (RssAnon: pages of mapped files are
the kernel's) and its processor time, which the rest of a busy machine disturbs less than the rate. Then
the same command runs again and finds nothing to do.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.plots import BLUE, DOCS, GREY, ORANGE, figure, keep
from benchmarks.timing import save, table

WORK = Path(__file__).resolve().parent.parent / "build" / "endurance"
COUNT = int(os.environ.get("COUNT") or 100_000)
FOLDER = 1000  # pictures in one folder
SIDES = (64, 48)
CONFIG = """\
extractor: frcnn
profile: {base: lxmert-published, name: tiny-64, about: for endurance only, short_side: 48, long_side: 64}
weights: seeded-tiny
batch: 8
workers: 1
"""


class Sample(NamedTuple):
    """seconds since the start, pictures durable by then, bytes of memory of the process's own, and its CPU seconds."""

    seconds: float
    done: int
    memory: int
    cpu: float


def main() -> None:
    """Draw, run, run again; print, save, plot."""
    photos = drawn(COUNT)
    store = WORK / "store"
    shutil.rmtree(store, ignore_errors=True)
    command = [
        sys.executable, "-m", "featx", "extract", str(photos), str(store), "--config", str(WORK / "config.yaml"),
        "--json",
    ]  # fmt: skip
    samples = watched(command)
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    resume = time.perf_counter() - begin
    facts = verdict(samples, COUNT) | {"resume of the finished job, s": resume, "pictures": COUNT}
    print(table([["", ""], *([name, f"{value:,.3f}".removesuffix(".000")] for name, value in facts.items())]))
    series = [[round(s.seconds, 1), s.done, s.memory, round(s.cpu, 2)] for s in thinned(samples, 400)]
    print("\nwrote", save("endurance", {"facts": facts, "series": series}), plot(samples, facts))
    shutil.rmtree(store)


def drawn(count: int) -> Path:
    """``count`` JPEG files of smooth noise, each another; those of an earlier run are kept."""
    photos = WORK / f"photos-{count}"
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "config.yaml").write_text(CONFIG)
    for number in range(count):
        path = photos / f"{number // FOLDER:04d}" / f"{number:07d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(noise, SIDES, interpolation=cv2.INTER_CUBIC))
    return photos


def watched(command: Sequence[str]) -> list[Sample]:
    """Run the command; a sample for each line that it says about its progress."""
    samples: list[Sample] = []
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            samples.append(Sample(time.perf_counter() - begin, said["done"], own_memory(process.pid), cpu(process.pid)))
    if process.returncode:
        raise SystemExit(f"{command[3]} ended with {process.returncode}")
    return samples


def own_memory(pid: int) -> int:
    """Bytes of anonymous memory of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def cpu(pid: int) -> float:
    """Processor seconds that a process has used; 0 when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def verdict(samples: Sequence[Sample], count: int) -> dict[str, float]:
    """The second tenth against the last: pictures a second, and memory."""
    times = np.interp([0.1 * count, 0.2 * count, 0.9 * count, count], *unzipped(samples))
    second, last = 0.1 * count / (times[1] - times[0]), 0.1 * count / (times[3] - times[2])
    before, after = (memory(samples, count * low, count * (low + 0.1)) for low in (0.1, 0.9))
    alive = [s for s in samples if s.cpu]
    spent = np.interp([0.1 * count, 0.2 * count, 0.9 * count, count], [s.done for s in alive], [s.cpu for s in alive])
    return {
        "pictures/s, second tenth": float(second),
        "pictures/s, last tenth": float(last),
        "last over second": float(last / second),
        "CPU ms a picture, second tenth": float(spent[1] - spent[0]) / count * 1e4,
        "CPU ms a picture, last tenth": float(spent[3] - spent[2]) / count * 1e4,
        "own memory in the second tenth, MB": before / 1e6,
        "own memory in the last tenth, MB": after / 1e6,
        "growth, bytes a picture": (after - before) / (0.8 * count),
    }


def unzipped(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Pictures done, each number once, and when it was first seen."""
    first: dict[int, float] = {0: samples[0].seconds} if samples[0].done else {}
    for sample in samples:
        first.setdefault(sample.done, sample.seconds)
    return [float(done) for done in first], list(first.values())


def memory(samples: Sequence[Sample], low: float, high: float) -> float:
    """Median of the process's own memory between two numbers of pictures."""
    return statistics.median([s.memory for s in samples if low <= s.done <= high and s.memory] or [0])


def thinned(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many of them, evenly."""
    return list(samples[:: -(-len(samples) // most)])


def plot(samples: Sequence[Sample], facts: dict[str, Any]) -> Path:
    """Rate and memory over the pictures that are done."""
    change, growth = facts["last over second"] - 1, facts["growth, bytes a picture"]
    title = f"{facts['pictures']:,} pictures in one run: rate {change:+.1%} from the second to the last tenth"
    shown, axes = figure(2, 1, (8.5, 5.6), title)
    done, seconds = (np.array(values) for values in unzipped(samples))
    marks = np.linspace(0, facts["pictures"], max(11, min(101, len(done) // 3)))
    times = np.interp(marks, done, seconds)
    rates, memories = axes[0, 0], axes[1, 0]
    rates.plot((marks[1:] + marks[:-1]) / 2, np.diff(marks) / np.diff(times), color=BLUE, linewidth=1.4)
    rates.axhline(facts["pictures/s, second tenth"], color=GREY, linewidth=1, linestyle="--", label="second tenth")
    rates.set(ylabel="pictures / s", ylim=(0, None), title="Rate")
    rates.legend(loc="lower right")
    alive = [s for s in samples if s.memory]
    memories.plot([s.done for s in alive], [s.memory / 1e6 for s in alive], color=ORANGE, linewidth=1.4)
    memories.set(
        xlabel="pictures done", ylabel="MB", ylim=(0, None),
        title=f"Memory of the process's own: {growth:+.0f} bytes a picture, {growth:+.0f} MB a million",
    )  # fmt: skip
    for ax in (rates, memories):
        ax.set_xlim(0, facts["pictures"])
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return keep(shown, (DOCS if facts["pictures"] >= 100_000 else WORK) / "endurance.png")


if __name__ == "__main__":
    main()
