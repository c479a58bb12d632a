"""Writing with fsync: records into a store in group commits, beside a flat file of the same bytes, py-lmdb and h5py.

Records of 36 x 2048 float16 with six fields. A store also checks every record, sums it, and publishes its manifests;
the flat file is given the finished bytes. Turn by turn, from an empty folder each time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np

from benchmarks.timing import save, table
from featx.codec import encode, store_key
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part, open_store
from featx.store.writer import GROUP_BYTES

WORK = Path(__file__).resolve().parent.parent / "build" / "writing"
RECORDS, DIFFERENT, ROWS, DIM, TURNS = 1024, 64, 36, 2048, 9
SCHEMA = region_schema(DIM, "float16", rows=ROWS)
KEYS = [f"COCO_val2014_{number * 7919 % 1000003:012d}" for number in range(RECORDS)]


def main() -> None:
    """Print the table and write ``results/writing.json``."""
    records = drawn()
    stored = [encode(record, SCHEMA, store_key(KEYS[n]), n) for n, record in enumerate(records)]
    payload = RECORDS * sum(records[0].array(name).nbytes for name in records[0].names())
    ways: dict[str, Callable[[], object]] = {
        "flat file": lambda: flat(stored),
        "featx LMDB": lambda: featx("lmdb", records),
        "featx HDF5": lambda: featx("hdf5", records),
        "py-lmdb, a transaction each 64 MB": lambda: plain_lmdb(stored),
        "h5py, contiguous": lambda: plain_h5(records),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    sizes: dict[str, int] = {}
    for turn in range(TURNS + 1):
        for name, write in ways.items():
            shutil.rmtree(WORK, ignore_errors=True)
            WORK.mkdir(parents=True)
            os.sync()
            begin = time.perf_counter()
            write()
            if turn:  # the first does not count
                times[name].append(time.perf_counter() - begin)
            sizes[name] = sum(path.stat().st_size for path in WORK.rglob("*") if path.is_file())
            if name.startswith("featx"):
                with open_store(WORK / "store") as store:
                    assert store[KEYS[7]] == records[7]
                    assert len(store) == RECORDS
    shutil.rmtree(WORK)
    rows = {name: summary(name, times, sizes[name] / payload) for name in ways}
    print(
        table([["", "MB/s", "of flat", "bytes / payload"], *(cells(name, row, payload) for name, row in rows.items())])
    )
    print("\nwrote", save("writing", {"records": RECORDS, "payload": payload, "rows": rows}))


def summary(name: str, times: dict[str, list[float]], size: float) -> dict[str, Any]:
    """Median, best and worst; shares are of the flat file in the same turn."""
    shares = [flat / mine for flat, mine in zip(times["flat file"], times[name], strict=True)]
    return {
        kind: {"median": statistics.median(values), "least": min(values), "most": max(values)}
        for kind, values in (("seconds", times[name]), ("share", shares))
    } | {"size": size}


def cells(name: str, row: dict[str, Any], payload: int) -> list[str]:
    """A line of the table."""
    seconds, share = row["seconds"], row["share"]
    rates = [payload / seconds[which] / 1e6 for which in ("median", "most", "least")]
    return [
        name, "{:,.0f} ({:,.0f} to {:,.0f})".format(*rates),
        f"{share['median']:.3f} ({share['least']:.3f} to {share['most']:.3f})", f"{row['size']:.4f}",
    ]  # fmt: skip


def drawn() -> list[Record]:
    """A few records that are written again and again under other keys."""
    draw = np.random.default_rng(0)
    boxes = np.sort(draw.random((ROWS, 2, 2), np.float32), axis=1).reshape(ROWS, 4) * 300
    ids, confs = np.arange(ROWS, dtype=np.int32), np.ones(ROWS, np.float32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    features = draw.random((DIFFERENT, ROWS, DIM), np.float32).astype(np.float16)
    return [Record(one, boxes, (400, 400), ROWS, extra) for one in features]


def flat(stored: list[bytes]) -> None:
    """The same bytes, one record after another, and one fsync."""
    handle = os.open(WORK / "flat", os.O_WRONLY | os.O_CREAT, 0o644)
    for number in range(RECORDS):
        os.write(handle, stored[number % DIFFERENT])
    os.fsync(handle)
    os.close(handle)


def featx(backend: str, records: list[Record]) -> None:
    """A store, complete."""
    create_store(WORK / "store", backend, SCHEMA, {})
    with open_part(WORK / "store") as writer:
        for number, key in enumerate(KEYS):
            writer.put(key, records[number % DIFFERENT], number)
        writer.finish()


def plain_lmdb(stored: list[bytes]) -> None:
    """The same values by py-lmdb, in groups of the same size."""
    env, step = lmdb.open(str(WORK / "lmdb"), 4 << 30, subdir=False), GROUP_BYTES // len(stored[0])
    for first in range(0, RECORDS, step):
        with env.begin(write=True) as txn:
            for number in range(first, min(RECORDS, first + step)):
                txn.put(KEYS[number].encode(), stored[number % DIFFERENT])
    env.close()


def plain_h5(records: list[Record]) -> None:
    """The same arrays by h5py, and one fsync."""
    path = WORK / "records.h5"
    with h5py.File(path, "w") as file:
        arrays = {name: records[0].array(name) for name in records[0].names()}
        made = {name: file.create_dataset(name, (RECORDS, *one.shape), one.dtype) for name, one in arrays.items()}
        for number in range(RECORDS):
            for name, dataset in made.items():
                dataset[number] = records[number % DIFFERENT].array(name)
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
