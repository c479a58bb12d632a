"""Batches of 256 shuffled records of 36 x 2048 float16: featx beside everybody else's reader, and the limit of memory.

The limit is a plain native loop (``limit.cpp``) that reads float16 records from memory and streams float32 out, on the
same threads: no keys, no files, no checks. All read from the page cache, turn by turn, other rows each time; a turn is
one call that does not count and three that do.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.readers import Array, key_of, readers
from benchmarks.timing import save, table
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part, open_store

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "reading"
RECORDS, ROWS, DIM, BATCH, TURNS = 2048, 36, 2048, 256, 15
LIMIT = "limit: float16 in memory to float32"
Reader = Callable[[Sequence[int]], Any]


def main() -> None:
    """Print the table and write ``results/reading.json``."""
    features = drawn()
    batch = torch.zeros(BATCH, ROWS, DIM)
    stores = {name: make_store(WORK / name, name, features) for name in ("lmdb", "hdf5")}
    others, absent = readers(WORK, features, batch, stores["lmdb"])
    pieces = {LIMIT: limit(features, batch), **ours(stores), **others}
    for name, read in pieces.items():
        check(name, read, features)
    times = turns(pieces)
    results = {name: summary(name, times) for name in pieces}
    for path in (p for p in WORK.iterdir() if p.name not in stores):
        shutil.rmtree(path)
    print(table([["", "records/s", "of the limit"], *map(cells, results.items())]))
    for name, why in absent.items():
        print(f"left out: {name}: {why}")
    print("\nwrote", save("reading", {"records": RECORDS, "batch": BATCH, "rows": results, "left out": absent}))


def drawn() -> Array:
    """Features as a detector's: not negative, a third zeros, with tails."""
    draw = np.random.default_rng(0)
    values = draw.standard_exponential((RECORDS, ROWS, DIM), np.float32)
    values[draw.random(values.shape, np.float32) < 0.33] = 0
    return values.astype(np.float16)


def make_store(path: Path, backend: str, features: Array) -> Path:
    """The records as a store."""
    shutil.rmtree(path, ignore_errors=True)
    create_store(path, backend, region_schema(DIM, "float16", rows=ROWS), {"extractor": "drawn"}, {})
    boxes = np.tile(np.float32([0, 0, 320, 240]), (ROWS, 1))
    ids, confs = np.zeros(ROWS, np.int32), np.ones(ROWS, np.float32)
    named = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    with open_part(path) as writer:
        for row, one in enumerate(features):
            writer.put(key_of(row), Record(one, boxes, (480, 640), ROWS, named), row)
        writer.finish()
    return path


def ours(stores: dict[str, Path]) -> dict[str, Reader]:
    """featx, in every way that is asked about. Every buffer is made once."""
    pieces: dict[str, Reader] = {}
    for name, checksums, dtype in (
        ("lmdb", "once", "float32"), ("lmdb", "never", "float32"), ("lmdb", "always", "float32"),
        ("lmdb", "once", "stored"), ("hdf5", "once", "float32"),
    ):  # fmt: skip
        store = open_store(stores[name], checksums=checksums)
        out = store.buffer(BATCH, dtype=dtype)
        title = f"featx {name.upper()}, checksums {checksums}, {'float16' if dtype == 'stored' else dtype} out"
        pieces[title] = lambda rows, s=store, o=out: s.get_batch([key_of(r) for r in rows], o).features  # type: ignore[misc]
        for first in range(0, RECORDS, BATCH):  # "once" is over; of the others the pages are mapped
            pieces[title](range(first, first + BATCH))
    return pieces


def limit(features: Array, batch: torch.Tensor) -> Reader:
    """The native loop, compiled here."""
    target = WORK / "limit" / "limit.so"
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(ROOT / name) for name in ("benchmarks/limit.cpp", "csrc/store/pool.cpp")]
    flags = ["-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-w"]
    subprocess.run(["c++", *flags, *sources, "-o", str(target)], check=True)
    library, threads = ctypes.CDLL(str(target)), torch.get_num_threads()

    def read(rows: Sequence[int]) -> torch.Tensor:
        places = np.array(rows, np.int64)
        addresses = (batch.data_ptr(), features.ctypes.data, places.ctypes.data)
        numbers = (len(places), ROWS * DIM, threads)
        library.limit(*map(ctypes.c_void_p, addresses), *map(ctypes.c_int64, numbers))
        return batch

    return read


def check(name: str, read: Reader, features: Array) -> None:
    """What is read is what was written."""
    rows = range(BATCH) if "in order" in name else random.Random(1).sample(range(RECORDS), BATCH)
    found = read(rows)
    wanted = torch.from_numpy(features[list(rows)])
    assert torch.equal(found.to(torch.float16).view(wanted.shape), wanted), f"{name} reads something else"


def turns(pieces: dict[str, Reader]) -> dict[str, list[float]]:
    """Seconds of each reader, turn by turn."""
    draw, times = random.Random(0), {name: [] for name in pieces}  # type: dict[str, list[float]]
    for _ in range(TURNS):
        for name, read in pieces.items():
            first, *others = (draw.sample(range(RECORDS), BATCH) for _ in range(4))
            read(first)  # the caches are the reader's own again
            begin = time.perf_counter()
            for rows in others:
                read(rows)
            times[name].append((time.perf_counter() - begin) / len(others))
    return times


def summary(name: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Records a second, and the share of the limit: medians, worst and best. Shares are of the same turn."""
    rates = [BATCH / seconds for seconds in times[name]]
    shares = [most / seconds for most, seconds in zip(times[LIMIT], times[name], strict=True)]
    return {
        "rate": {"median": statistics.median(rates), "worst": min(rates), "best": max(rates)},
        "share": {"median": statistics.median(shares), "worst": min(shares), "best": max(shares)},
    }


def cells(row: tuple[str, dict[str, Any]]) -> list[str]:
    """A line of the table."""
    rate, share = row[1]["rate"], row[1]["share"]
    return [
        row[0], f"{rate['median']:,.0f} ({rate['worst']:,.0f} to {rate['best']:,.0f})",
        f"{share['median']:.3f} ({share['worst']:.3f} to {share['best']:.3f})",
    ]  # fmt: skip
