"""Two processes of one thread against one: pictures a second of the full-size network, where each has a core.

Every process has its own network and pictures, as the workers of an extraction have. One and two of them take turns,
so that what else the machine does hits both alike; the share of others is printed beside.
"""

from __future__ import annotations

import multiprocessing
import statistics
from typing import Any

from benchmarks.timing import measure, save, table

ROUNDS = 3
PICTURES = 2


def main() -> None:
    """Time, print, save."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(2):
        here, there = context.Pipe()
        context.Process(target=work, args=(there,), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()  # built, and warm
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count in rates:
            timing = measure(lambda count=count: ask(pipes[:count]), 1, 0)  # type: ignore[misc]
            rates[count].append(count * PICTURES / timing.median)
    for pipe in pipes:
        pipe.send("")
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    rows = [("processes", "pictures/s", "each round")]
    rows += [(str(n), f"{statistics.median(r):.4f}", " ".join(f"{v:.4f}" for v in r)) for n, r in rates.items()]
    print(table(rows))
    print(f"two against one: {two / one:.2f}")
    results = {"rates": {str(n): r for n, r in rates.items()}, "two against one": two / one}
    print(f"written to {save('processes', results)}")


def ask(pipes: list[Any]) -> None:
    """Let each of them do its pictures, and wait for all."""
    for pipe in pipes:
        pipe.send("run")
    for pipe in pipes:
        pipe.recv()


def work(pipe: Any) -> None:
    """Serve, until an empty message comes."""
    import torch

    torch.set_num_threads(1)
    from benchmarks.stages import photo, run_featx
    from featx_extractors.detector import Detector
    from featx_extractors.preprocess import frame_for
    from featx_extractors.profiles import PROFILES
    from featx_extractors.weights import load_weights

    profile, pixels = PROFILES["hf-demo-fixed"], photo()
    detector, frame = Detector(load_weights("seeded"), profile), frame_for(*pixels.shape[:2], profile)
    run_featx(detector, pixels, frame)
    pipe.send("ready")
    while pipe.recv():
        for _ in range(PICTURES):
            run_featx(detector, pixels, frame)
        pipe.send("done")
