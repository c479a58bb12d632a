"""100 million pictures on 64 GPUs and 512 cores: a simulation, fed with stage times measured here.

The model of a worker is first compared with real runs of one and two workers here. What is not measured is assumed, and
printed as such: no GPU's rate is measured by this bench. The network's operations are counted (``stages``).
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.fleet_model import Fleet, simulate
from benchmarks.plots import BLUE, DOCS, GREEN, GREY, ORANGE, figure, keep
from benchmarks.timing import save, table
from benchmarks.worker_model import Stages, Work, rate, seconds
from benchmarks.worker_runs import Cost, cost, timed

WORK = Path(__file__).resolve().parent.parent / "build" / "scale"
COUNT = int(os.environ.get("COUNT") or 240)  # pictures of a real run
CHECK = os.environ.get("CHECK") != "0"  # 0: no real runs, for a machine that is busy
PICTURES, GPUS, CORES, BATCH, PARTS = 100_000_000, 64, 512, 8, 4096
OPERATIONS = 2.03e12  # of the full-size network for a 640x480 picture, 300 regions: counted by benchmarks.operations
IN_HAND = CORES // GPUS + 4 * BATCH + 2 * 16  # decoded ahead, waiting to be written, and in the commit under way
QUIET = 0.9  # of the cores free: from here on a comparison with real runs means something
# Assumptions
MATRIX = {"float32": 67e12, "tf32": 495e12, "bf16": 989e12}  # operations/s, data sheet of an H100 SXM, dense
SHARE = float(os.environ.get("SHARE") or 0.5)  # of that rate which the network reaches
STORAGE = 10e9  # bytes/s of the shared storage, reading and writing
PHOTO = 160e3  # bytes of a JPEG
MEAN_LIFE = 48 * 3600.0  # of a worker, exponential
FAULTS: dict[str, Any] = {
    "start": 60.0, "mean_life": MEAN_LIFE, "in_hand": IN_HAND, "spread": 0.05, "slow": 0.03, "slowness": 1.5,
    "poison": 10_000_000,
}  # fmt: skip


def main() -> None:
    """Measure, compare, answer; print, save, plot."""
    photos = drawn(COUNT)
    costs = {kind: cost(kind, photos, fresh("cost"), min(32, COUNT)) for kind in ("device", "tiny")}
    checks = [compared(kind, costs[kind], photos, workers) for kind in costs for workers in (1, 2) if CHECK]
    rows = [["workers here", "pictures", "cores left by others", "predicted s", "measured s", "error"]]
    rows += [
        [f"{c['kind']}, {c['workers']}", f"{c['pictures']}", f"{c['cores']:.2f}", f"{c['predicted']:.2f}",
         f"{c['measured']:.2f}", f"{c['error']:+.1%}"]
        for c in checks
    ]  # fmt: skip
    print(table(rows) if checks else "not compared with real runs", end="\n\n")
    answers = {name: answer(costs["device"], name) for name in MATRIX}
    print(table(told(answers)), end="\n\n")
    print(table(inputs(costs["device"])))
    results = {"checks": checks, "costs": {k: asdict(c.stages) | {"bytes": c.bytes} for k, c in costs.items()}}
    assumed = {"matrix": MATRIX, "share": SHARE, "storage": STORAGE, "photo": PHOTO, **FAULTS}
    path = save("scale", results | {"answers": answers, "assumed": assumed})
    print("\nwrote", path, plot(costs["device"], checks))
    shutil.rmtree(WORK)


def drawn(count: int) -> str:
    """640 x 480 JPEG files with the detail of photographs: smooth noise of several scales."""
    for number in range(count):
        draw = np.random.default_rng(number)
        layers = [draw.integers(0, 255, (480 // s, 640 // s, 3), np.uint8) for s in (80, 20, 4)]
        large = [cv2.resize(layer, (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.float32) for layer in layers]
        path = WORK / "photos" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (0.5 * large[0] + 0.35 * large[1] + 0.15 * large[2]).astype(np.uint8))
    return str(WORK / "photos")


def fresh(name: str) -> Path:
    """A folder for a store that is not there."""
    shutil.rmtree(WORK / name, ignore_errors=True)
    return WORK / name


def compared(kind: str, price: Cost, photos: str, workers: int) -> dict[str, Any]:
    """A real run beside its prediction, which knows the stages' costs and the machine's cores, as if it were quiet.

    ``cores`` is what other processes left of them: where that is less than all, the difference is not the model's.
    """
    pictures = COUNT if kind == "device" else COUNT // 4
    measured = timed(kind, photos, fresh("run"), workers, pictures)
    counts = [pictures * (k + 1) // workers - pictures * k // workers for k in range(workers)]
    predicted = seconds(price.stages, counts, os.cpu_count() or 1)
    return {
        "kind": kind, "workers": workers, "pictures": pictures, "cores": measured.cores, "predicted": predicted,
        "measured": measured.seconds, "error": predicted / measured.seconds - 1,
    }  # fmt: skip


def stages_of(price: Cost, precision: str, cores: int) -> Stages:
    """A worker with a GPU: decoding, writing and committing as measured here, the network as assumed."""
    network = Work(price.stages.network.cpu, OPERATIONS / (SHARE * MATRIX[precision]))
    return replace(price.stages, network=network, threads=cores, batch=BATCH)


def bounds(price: Cost, precision: str, gpus: int, cores: int) -> dict[str, float]:
    """Seconds of a picture in one worker, were there only one of its stages."""
    stages = stages_of(price, precision, cores)
    commit = (stages.commit.cpu + stages.commit.wait) / 16  # as many as wait go into one
    cpu = stages.decode.cpu + stages.network.cpu + stages.put.cpu + stages.commit.cpu / 16
    return {
        "network": stages.network.wait + stages.network.cpu,
        "cores (decoding)": cpu / cores,
        "write": stages.put.cpu + stages.put.wait + commit,
        "storage": gpus * (price.bytes + PHOTO) / STORAGE,
    }


def fleet_of(price: Cost, precision: str, gpus: int = GPUS, cores: int = CORES // GPUS, parts: int = PARTS) -> Fleet:
    """Workers whose pace is that of the simulated pipeline, or what the storage allows."""
    pace = rate(stages_of(price, precision, cores), cores)
    slowest = max(1 / pace, bounds(price, precision, gpus, cores)["storage"])
    return Fleet(gpus, PICTURES, parts, slowest, **FAULTS)


def answer(price: Cost, precision: str) -> dict[str, Any]:
    """The question's answer for one precision: means of 20 runs, and the longest."""
    fleet, each = fleet_of(price, precision), bounds(price, precision, GPUS, CORES // GPUS)
    runs = [simulate(fleet, seed) for seed in range(20)]
    mean = {
        name: float(np.mean([getattr(run, name) for run in runs]))
        for name in ("hours", "busy", "deaths", "poison", "again", "interrupted", "tail")
    }
    return {
        "rate": GPUS / fleet.seconds, "limit": max(each, key=each.__getitem__), "bounds": each, **mean,
        "longest": max(run.hours for run in runs), "terabytes": PICTURES * price.bytes / 1e12,
    }  # fmt: skip


def told(answers: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The table of the answer."""
    head = f"{PICTURES:,} pictures, {GPUS} GPUs, {CORES} cores, {PARTS} parts (simulated)"
    lines = {
        "hours, mean of 20 runs (longest)": lambda a: f"{a['hours']:.2f} ({a['longest']:.2f})",
        "pictures/s without faults": lambda a: f"{a['rate']:,.0f}",
        "limit": lambda a: a["limit"],
        "next stage, share of the limit": lambda a: (
            f"{sorted(a['bounds'].values())[-2] / max(a['bounds'].values()):.0%}"
        ),
        "share of GPU time that counts": lambda a: f"{a['busy']:.1%}",
        "deaths (of poison)": lambda a: f"{a['deaths']:.0f} ({a['poison']:.0f})",
        "parts interrupted; lost": lambda a: f"{a['interrupted']:.0f}; 0",
        "pictures computed again": lambda a: f"{a['again']:,.0f}",
        "hours with a worker idle at the end": lambda a: f"{a['tail']:.2f}",
        "TB of records": lambda a: f"{a['terabytes']:.1f}",
    }
    return [[head, *answers], *([name, *map(line, answers.values())] for name, line in lines.items())]


def inputs(price: Cost) -> list[list[str]]:
    """What was measured here, and what is assumed."""
    stages = price.stages
    measured = {
        "decode and prepare 640x480, ms of a core": f"{stages.decode.cpu * 1e3:.2f}",
        "put a record of 36 x 2048, ms": f"{stages.put.cpu * 1e3:.3f}",
        "commit, ms of a core + ms of waiting": f"{stages.commit.cpu * 1e3:.2f} + {stages.commit.wait * 1e3:.2f}",
        "bytes of a record": f"{price.bytes:,.0f}",
    }
    assumed = {
        "matrix rates, TFLOP/s (data sheet)": ", ".join(f"{k} {v / 1e12:.0f}" for k, v in MATRIX.items()),
        "share of it that is reached": f"{SHARE:.0%}",
        "storage, GB/s; JPEG, kB": f"{STORAGE / 1e9:.0f}; {PHOTO / 1e3:.0f}",
        "mean life of a worker, h; start, s": f"{MEAN_LIFE / 3600:.0f}; {FAULTS['start']:.0f}",
        "speed: spread; slow workers": f"{FAULTS['spread']:.0%}; {FAULTS['slow']:.0%} x {FAULTS['slowness']}",
        "one poison picture in": f"{FAULTS['poison']:,}",
        "pictures that a death loses": f"{IN_HAND}",
    }
    counted = [["counted", "operations of the network, TFLOP", f"{OPERATIONS / 1e12:.2f}"]]
    here = [["measured here", *row] for row in measured.items()]
    return [*here, *counted, *(["assumed", *row] for row in assumed.items())]


def plot(price: Cost, checks: Sequence[dict[str, Any]]) -> Path:
    """The comparison with real runs, and three answers."""
    shown, axes = figure(
        2,
        2,
        (11.5, 8),
        f"{PICTURES // 10**6} million pictures, simulated: how long, and what sets the pace (GPU rates assumed)",
    )
    if checks:
        _draw_checks(axes[0, 0], checks)
    else:
        _draw_bounds(axes[0, 0], price)
    _draw_gpus(axes[0, 1], price)
    _draw_parts(axes[1, 0], price)
    _draw_end(axes[1, 1], price)
    return keep(shown, DOCS / "scale.png")


def _draw_checks(ax: Any, checks: Sequence[dict[str, Any]]) -> None:
    at = np.arange(len(checks))
    ax.bar(at - 0.2, [c["predicted"] for c in checks], 0.38, color=BLUE, label="predicted")
    ax.bar(at + 0.2, [c["measured"] for c in checks], 0.38, color=ORANGE, label="measured")
    for x, c in zip(at, checks, strict=True):
        ax.annotate(f"{c['error']:+.0%}", (x, max(c["predicted"], c["measured"])), ha="center", va="bottom")
    names = {"device": "waits for\na device", "tiny": "tiny network\non the cores"}
    ax.set_xticks(
        at, [f"{names[c['kind']]}\n{c['workers']} worker{'s' * (c['workers'] > 1)}, {c['pictures']}" for c in checks]
    )
    cores, least = os.cpu_count() or 1, min(c["cores"] for c in checks)
    quiet = "quiet" if least > QUIET * cores else f"busy ({least:.1f} of {cores} cores free)"
    ax.set(ylabel="seconds", xlabel="workers, pictures", title=f"Model and real runs: {quiet} machine")
    ax.grid(axis="x", visible=False)
    ax.margins(y=0.15)
    ax.legend()


def _draw_bounds(ax: Any, price: Cost) -> None:
    for at, (name, colour) in enumerate(zip(MATRIX, (GREY, BLUE, GREEN), strict=True)):
        each = bounds(price, name, GPUS, CORES // GPUS)
        places = np.arange(len(each)) + 0.27 * (at - 1)
        bars = ax.bar(places, [1e3 * value for value in each.values()], 0.25, color=colour, label=name)
        ax.bar_label(bars, fmt="%.1f", fontsize=8)
        ax.set_xticks(np.arange(len(each)), list(each))
    ax.set_yscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set(ylabel="ms a picture of one worker", title="The network sets the pace: each stage, were it alone")
    ax.grid(axis="x", visible=False)
    ax.legend()


def _draw_gpus(ax: Any, price: Cost) -> None:
    gpus = [8, 16, 32, 64, 128, 256, 512]
    for name, colour in zip(MATRIX, (GREY, BLUE, GREEN), strict=True):
        for cores, style in ((8, "-"), (1, ":")):
            hours = [simulate(fleet_of(price, name, count, cores)).hours for count in gpus]
            label = name if cores == 8 else None
            ax.loglog(gpus, hours, color=colour, linestyle=style, marker="o", markersize=3.5, label=label)
    ax.axvline(GPUS, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_xticks(gpus, [str(count) for count in gpus])
    ax.minorticks_off()
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(xlabel="GPUs", ylabel="hours", title="Hours with 8 cores a GPU (dotted: 1)")
    ax.legend()


def _draw_parts(ax: Any, price: Cost) -> None:
    parts = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
    for name, colour in (("tf32", BLUE), ("bf16", GREEN)):
        fleets = [fleet_of(price, name, parts=count) for count in parts]
        busy = [np.mean([simulate(fleet, seed).busy for seed in range(10)]) for fleet in fleets]
        ax.semilogx(parts, [100 * (1 - value) for value in busy], color=colour, marker="o", markersize=3.5, label=name)
    ax.set_xticks(parts, [f"{count:,}" for count in parts], rotation=30)
    ax.minorticks_off()
    ax.set(xlabel="parts of the list", ylabel="% of GPU time idle or lost", ylim=(0, None),
           title=f"Parts: few leave workers idle at the end ({GPUS} GPUs)")  # fmt: skip
    ax.legend()


def _draw_end(ax: Any, price: Cost) -> None:
    for parts, colour in ((256, ORANGE), (PARTS, GREEN)):
        ends = sorted(end / 3600 for end in simulate(fleet_of(price, "bf16", parts=parts), seed=1).ends)
        ax.step([0, *ends], [*range(GPUS, -1, -1)], where="post", color=colour, label=f"{parts:,} parts")
    ax.set(xlabel="hours", ylabel="workers at work", ylim=(0, GPUS * 1.05), title="The end of a run in bf16")
    ax.set_xlim(0, None)
    ax.legend(loc="lower left")


assert math.isclose(CORES / GPUS, CORES // GPUS)
