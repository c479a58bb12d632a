"""Three shuffled epochs of a DataLoader with four workers that may have little memory of their own.

``python -m tests.dataloader_loop STORE fork|spawn flows|keeps`` prints what every process had after each batch.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from featx import FeatureDataset
from featx.record import RecordBatch

WORKERS, BATCH, EPOCHS = 4, 8, 3
WARM = 3  # batches of a worker until all its threads run
ROOM = 4 << 20  # bytes for each of the five processes, above what it has when all its threads run


def own() -> int:
    """Anonymous memory that this process has, bytes. Pages of mapped files, the store's, are the kernel's to drop."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def limit() -> None:
    """No more than ``ROOM`` from now on. What counts is what the process may write to and does not share."""
    lines = Path("/proc/self/status").read_text().splitlines()
    now = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + ROOM,) * 2)


class Collate:
    """Passes batches on, with what their worker has. keeps: the worker does not let go of them."""

    def __init__(self, keeps: bool) -> None:
        self.keeps, self.kept, self.passed = keeps, list[RecordBatch](), 0

    def __call__(self, batch: RecordBatch) -> tuple[RecordBatch, int, int]:
        self.passed += 1
        if self.passed == WARM:
            limit()
        if self.keeps:
            self.kept.append(batch.clone())
        return batch, os.getpid(), own()


def main(store: str, method: str, kind: str) -> None:
    """Run, and print ``{pid: [bytes, ...]}`` and the sums of all features by epoch."""
    dataset = FeatureDataset(store)
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True,
        multiprocessing_context=method, collate_fn=Collate(kind == "keeps"), generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    had: dict[int, list[list[int]]] = {}
    sums: list[float] = []
    for epoch in range(EPOCHS):
        sums.append(0.0)
        for batch, worker, size in loader:
            had.setdefault(worker, [[] for _ in range(EPOCHS)])[epoch].append(size)
            had.setdefault(os.getpid(), [[] for _ in range(EPOCHS)])[epoch].append(own())
            sums[-1] += float(batch.features.sum(dtype=torch.float64))
            if epoch == 0 and len(had[os.getpid()][0]) == WARM * WORKERS:
                limit()
    print(json.dumps({"had": list(had.values()), "sums": sums}))


if __name__ == "__main__":
    main(*sys.argv[1:])
