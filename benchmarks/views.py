"""Batches of a view of a superset store, beside a plain store of the same regions, and read without the native reader.

1024 records of 100 x 2048 float16 with the fields of a classwise superset; shuffled batches of 256 into a reused
float32 batch. The threshold of the second view lets about half of the candidates pass, in the order of the proposals,
so that its rows are copied one by one.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import save, table
from featx.record import Record
from featx.schema import Array, Schema
from featx.store import StoreReader, create_store, open_part, open_store
from featx_extractors.frcnn import FRCNN

WORK = Path(__file__).resolve().parent.parent / "build" / "views"
RECORDS, BATCH, ROWS, DIM, TURNS, PLAIN_TURNS = 1024, 256, 100, 2048, 15, 3
KEYS = [str(number) for number in range(RECORDS)]


def main() -> None:
    """Print the table and write ``results/views.json``."""
    superset = open_store(make_superset(WORK / "superset"))
    views = {"36": superset.view("36"), "10..100": superset.view("10..100", 0.5)}
    plain = {name: open_store(made_of(view, WORK / name)) for name, view in views.items()}
    ways = {f"a plain store of {name}": store for name, store in plain.items()}
    ways |= {f"a view of {name}": view for name, view in views.items()}
    ways |= {"the whole superset": superset}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, store in ways.items():
            seconds = timed(store, turn)
            taken[name] += [seconds] if turn else []
    type(superset).gathering = property(lambda self: None)  # type: ignore[assignment,method-assign]
    for name, view in views.items():
        taken[f"a view of {name}, plain Python"] = [timed(view, turn) for turn in range(PLAIN_TURNS)]
    rows = {name: {"median": statistics.median(t), "least": min(t), "most": max(t)} for name, t in taken.items()}
    print(table([["", "ms a batch", "records/s"], *(cells(name, row) for name, row in rows.items())]))
    print("\nwrote", save("views", {"batch": BATCH, "records": RECORDS, "rows": rows}))


def timed(store: StoreReader, turn: int) -> float:
    """Milliseconds a batch, over all records in an order of the turn; the batch's memory is there before."""
    order = np.random.default_rng(turn).permutation(RECORDS)
    rows = store.schema.rows or ROWS
    batches = [[KEYS[n] for n in order[first : first + BATCH]] for first in range(0, RECORDS, BATCH)]
    out = store.buffer(BATCH, rows, fields=())
    store.get_batch(batches[0], out)
    begin = time.perf_counter()
    for keys in batches:
        store.get_batch(keys, out)
    return 1e3 * (time.perf_counter() - begin) / len(batches)


def make_superset(path: Path) -> Path:
    """Drawn candidates under the provenance of a real extraction."""
    extractor = FRCNN.from_options({"weights": "seeded-tiny", "profile": "caffe-36", "superset": ROWS})
    first, *others = extractor.schema.fields
    schema = replace(extractor.schema, fields=(replace(first, shape=(DIM,), dtype="float16"), *others))
    return written(path, schema, extractor.provenance(), [drawn(schema, number) for number in range(64)])


def drawn(schema: Schema, seed: int) -> Record:
    """A record of ``ROWS`` candidates, by falling confidence."""
    rng = np.random.default_rng(seed)

    def values(name: str, shape: tuple[int, ...], dtype: str) -> Array:
        if name == "proposal_ranks":
            return rng.permutation(ROWS).astype(np.int32)
        if name == "selection_confs":
            return np.sort(rng.random(ROWS, np.float32))[::-1].copy()
        return rng.integers(0, 300, shape).astype(np.int32) if dtype == "int32" else rng.random(shape, np.float32)

    extra = {f.name: values(f.name, f.shape_for(ROWS), f.dtype) for f in schema.extras if f.name != "next_conf"}
    extra["next_conf"] = np.zeros((), np.float32)
    extra["regressed_boxes"] = boxes = np.sort(rng.random((ROWS, 2, 2), np.float32), axis=1).reshape(ROWS, 4) * 100
    return Record(rng.random((ROWS, DIM), np.float32).astype(np.float16), boxes, (100, 100), ROWS, extra)


def made_of(view: StoreReader, path: Path) -> Path:
    """A store that holds the records of a view."""
    return written(path, view.schema, dict(view.manifest.provenance), [view[key] for key in KEYS])


def written(path: Path, schema: Schema, provenance: dict[str, Any], records: Sequence[Record]) -> Path:
    """A store of ``RECORDS`` records, those given over and over."""
    shutil.rmtree(path, ignore_errors=True)
    create_store(path, "lmdb", schema, provenance, {"objects": ["x"] * 400, "attributes": ["x"] * 400})
    with open_part(path) as writer:
        for number, key in enumerate(KEYS):
            writer.put(key, records[number % len(records)], number)
        writer.finish()
    return path


def cells(name: str, row: dict[str, float]) -> list[str]:
    """A line of the table."""
    rate = BATCH * 1e3 / row["median"]
    return [name, f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f})", f"{rate:,.0f}"]
