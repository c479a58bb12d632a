"""Shuffled batches of 256 records through a loader into a step that touches every value, and what each way costs.

The same LMDB file for all: FeatureLoader, FeatureDataset behind torch's DataLoader, and the usual Dataset of single
records with the default collate. The limit is that of ``reading``: a plain native loop out of memory, without a loader.
The first epoch of a pass does not count: worker processes start in it, and memory is mapped. Torch has one thread, as
beside a loader on two cores.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lmdb
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.readers import key_of
from benchmarks.reading import BATCH, DIM, RECORDS, ROWS, WORK, drawn, limit, make_store
from benchmarks.timing import save, table
from featx import FeatureDataset, FeatureLoader, open_store

EPOCHS, TURNS = 4, 7
LIMIT = "limit, no step"
WARM = RECORDS // BATCH  # batches
WEIGHTS = torch.rand(DIM)


class Usual(Dataset[torch.Tensor]):
    """One record at a time by py-lmdb; the handle is opened in the worker."""

    def __init__(self, path: str) -> None:
        self.path, self.txn = path, None

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, row: int) -> torch.Tensor:
        if self.txn is None:
            self.txn = lmdb.open(self.path, subdir=False, readonly=True, lock=False).begin(buffers=True)
        value = self.txn.get(key_of(row).encode())
        return torch.frombuffer(value, dtype=torch.float16, count=ROWS * DIM, offset=48).view(ROWS, DIM).float()


def step(features: torch.Tensor) -> float:
    """What a training step does at least: read every value once."""
    return float(features.sum())


def layer(features: torch.Tensor) -> float:
    """A linear layer over all regions, with one output."""
    return float(torch.mv(features.view(-1, DIM), WEIGHTS.to(features.dtype))[0])


def main() -> None:
    """Print the table and write ``results/loader.json``."""
    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    features, batch = drawn(), torch.zeros(BATCH, ROWS, DIM)
    path = make_store(WORK / "lmdb", "lmdb", features)
    native = limit(features, batch)  # on all threads
    torch.set_num_threads(1)
    store, keys = open_store(path), [key_of(row) for row in range(RECORDS)]
    file = str(next(path.rglob("records.lmdb")))
    fresh = FeatureDataset(store, keys, fields=())
    loader = FeatureLoader(store, keys, batch=BATCH, epochs=EPOCHS, fields=())
    halves = FeatureLoader(store, keys, batch=BATCH, epochs=EPOCHS, fields=(), dtype="stored")

    def shuffled() -> Iterator[list[int]]:
        order = list(range(RECORDS))
        for _ in range(EPOCHS):
            random.shuffle(order)
            yield from (order[first : first + BATCH] for first in range(0, RECORDS, BATCH))

    def usual(workers: int) -> Iterator[torch.Tensor]:
        made: DataLoader[Any] = DataLoader(Usual(file), BATCH, shuffle=True, num_workers=workers)
        for _ in range(EPOCHS):
            yield from made

    def dataset(workers: int) -> Iterator[torch.Tensor]:
        made: DataLoader[Any] = DataLoader(fresh, BATCH, shuffle=True, num_workers=workers, collate_fn=fresh.collate)
        for _ in range(EPOCHS):
            yield from (one.features for one in made)

    ways: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
        LIMIT: lambda: (native(rows) for rows in shuffled()),
        "limit, then the step": lambda: (native(rows) for rows in shuffled()),
        "step alone": lambda: (batch for _ in range(EPOCHS * RECORDS // BATCH)),
        "FeatureLoader, no step": lambda: (one.features for one in loader),
        "FeatureLoader": lambda: (one.features for one in loader),
        "FeatureLoader, a layer": lambda: (one.features for one in loader),
        "FeatureLoader, float16": lambda: (one.features for one in halves),
        "FeatureLoader, float16, a layer": lambda: (one.features for one in halves),
        "FeatureDataset, DataLoader, 0 workers": lambda: dataset(0),
        "FeatureDataset, DataLoader, 2 workers": lambda: dataset(2),
        "default collate, DataLoader, 0 workers": lambda: usual(0),
        "default collate, DataLoader, 2 workers": lambda: usual(2),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    faults: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            rate, fault = run(way(), none if name.endswith("no step") else layer if name.endswith("layer") else step)
            if turn:
                rates[name].append(rate)
                faults[name].append(fault)
    rows = {name: summary(rates[name], rates[LIMIT], faults[name]) for name in ways}
    print(table([["", "records/s", "of the limit", "page faults a batch"], *map(cells, rows.items())]))
    print("\nwrote", save("loader", {"batch": BATCH, "records": RECORDS, "epochs": EPOCHS, "rows": rows}))


def none(features: torch.Tensor) -> float:
    """No step."""
    return 0.0


def run(batches: Iterable[torch.Tensor], use: Callable[[torch.Tensor], float]) -> tuple[float, float]:
    """Records a second, and minor page faults of this process a batch."""
    before, begin, number = 0, 0.0, 0
    for number, one in enumerate(batches, 1):
        use(one)
        if number == WARM:
            before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    seconds, number = time.perf_counter() - begin, number - WARM
    return number * BATCH / seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / number


def summary(rates: list[float], limits: list[float], faults: list[float]) -> dict[str, Any]:
    """Medians, least and most; shares are of the limit in the same turn."""
    named = {"rate": rates, "share": [a / b for a, b in zip(rates, limits, strict=True)], "faults": faults}
    return {n: {"median": statistics.median(v), "least": min(v), "most": max(v)} for n, v in named.items()}


def cells(row: tuple[str, dict[str, Any]]) -> list[str]:
    """A line of the table."""
    rate, share = row[1]["rate"], row[1]["share"]
    return [
        row[0], f"{rate['median']:,.0f} ({rate['least']:,.0f} to {rate['most']:,.0f})",
        f"{share['median']:.3f} ({share['least']:.3f} to {share['most']:.3f})", f"{row[1]['faults']['median']:,.0f}",
    ]  # fmt: skip
