"""Opening a store of five million keys: seconds, and memory that does not grow with the number of keys.

The stores are made without their payload, by the functions that seal a part: what is read when one is opened, and
when a key is looked up, is as it would be. Every turn is a process of its own.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import save, table
from featx.codec import layout
from featx.schema import Field, Schema
from featx.store import (
    Manifest,
    PartManifest,
    Totals,
    create_store,
    hdf5_appendix,
    hdf5_sealed,
    lmdb_file,
    lmdb_pages,
    log_group,
    open_store,
)
from featx.store.lmdb_format import PAGE_HEADER
from featx.store.manifest import part_folder

WORK = Path(__file__).resolve().parent.parent / "build" / "opening"
COUNTS, TURNS = (5_000, 5_000_000), 9
SCHEMA = Schema((Field("features", "float16", (8,)), Field("boxes", "float32", (4,))), rows=1)


def main() -> None:
    """Print the table and write ``results/opening.json``."""
    results: dict[str, Any] = {}
    for count in COUNTS:
        for backend, make in (("lmdb", make_lmdb), ("hdf5", make_hdf5)):
            shutil.rmtree(WORK, ignore_errors=True)
            made(backend, count, make)
            runs = [child(WORK, count) for _ in range(TURNS)]
            results[f"{backend}, {count:,} keys"] = {
                name: {"median": statistics.median(values), "least": min(values), "most": max(values)}
                for name in runs[0]
                if (values := [run[name] for run in runs])
            }
    shutil.rmtree(WORK)
    head = ["", "open, ms", "first look-up, ms", "memory, MB"]
    rows = [[name, *(shown(row[kind]) for kind in ("open", "look", "memory"))] for name, row in results.items()]
    print(table([head, *rows]))
    print("\nwrote", save("opening", {"rows": results}))


def shown(row: dict[str, float]) -> str:
    """A cell."""
    return f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f})"


def key(number: int) -> str:
    """A key of COCO's length."""
    return f"COCO_train2014_{number:012d}"


def made(backend: str, count: int, make: Any) -> None:
    """A finished store of one part."""
    create_store(WORK, backend, SCHEMA, {})
    folder = part_folder(WORK, 0, 1)
    folder.mkdir(parents=True)
    path, frame = make(folder, count)
    totals = Totals(count, 0, {}, "0" * 32)
    PartManifest(0, 1, totals, {path.name: path.stat().st_size}, {path.name: ""}, {path.name: frame}).save(folder)
    replace(Manifest.load(WORK), totals=totals).save(WORK)


def make_lmdb(folder: Path, count: int) -> tuple[Path, str]:
    """The tree over records that are a hole in the file."""
    path, length = folder / "records.lmdb", layout(SCHEMA, 1)[1]
    main = lmdb_pages.value_tree([(key(n).encode(), 2 + n, length) for n in range(count)], 2 + count)
    free = lmdb_pages.free_tree([], 2 + count + len(main.pages))
    tree = b"".join((*main.pages, *free.pages))
    with path.open("wb") as file:
        file.write(lmdb_pages.meta_pages(free, main, 1 + count + len(tree) // log_group.PAGE))
        place = 2 + count // 2  # of the one that is looked up
        file.seek(place * log_group.PAGE)
        file.write(PAGE_HEADER.pack(place, 0, log_group.RUN, 1))
        file.seek((2 + count) * log_group.PAGE)
        file.write(tree)
    return path, lmdb_file.frame(path)


def make_hdf5(folder: Path, count: int) -> tuple[Path, str]:
    """Columns and indices over records that are a hole in the file."""
    path, end = folder / "records-00000.h5", (2 + count) * log_group.PAGE
    columns = {
        "keys": np.array([key(n).encode() for n in range(count)]),
        "offset": np.arange(2, 2 + count, dtype="<u8") * log_group.PAGE + PAGE_HEADER.size,
        "count": np.ones(count, "<u4"), "size": np.ones((count, 2), "<u4"), "ordinal": np.arange(count, dtype="<u8"),
        "checksum": np.zeros(count, "<u8"),
    }  # fmt: skip
    front, behind = hdf5_appendix.appendix(columns, SCHEMA, end)
    with path.open("wb") as file:
        file.write(front)
        file.seek(end)
        file.writelines(behind)
    return path, hdf5_sealed.open_file(path, SCHEMA).frame


def child(store: Path, count: int) -> dict[str, float]:
    """One turn."""
    line = [sys.executable, "-m", "benchmarks.opening", str(store), str(count)]
    return dict(json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout))


def turn(path: str, count: int) -> None:
    """Open, and look up a key; what was imported before does not count."""
    before = memory()
    begin = time.perf_counter()
    store = open_store(path)
    opened = time.perf_counter()
    assert len(store) == count
    assert key(count // 2) in store
    looked = time.perf_counter()
    print(json.dumps({"open": 1e3 * (opened - begin), "look": 1e3 * (looked - opened), "memory": memory() - before}))


def memory() -> float:
    """Megabytes that this process has of its own; pages of mapped files are the kernel's to drop."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1e3


if __name__ == "__main__":
    turn(sys.argv[1], int(sys.argv[2]))
