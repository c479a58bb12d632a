"""Does a training step ever wait for the cache? A small LXMERT on a store four times the memory its process may have.

Synthetic records of the published size (36 x 2048, float16), evicted from the page cache before every run. Rows differ
in the number of threads that make batches ahead; none is what a plain loop does. The last row reads everything into
memory first, as the published LXMERT does, under the same limit.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.timing import save, table
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part, open_store
from featx.train import TrainConfig, train
from featx.train.recipe import read_recipe

WORK = Path(__file__).resolve().parent.parent / "build" / "feeding"
PICTURES, ROWS, DIM = 14_000, 36, 2048
ROOM = 512 << 20  # bytes that a process may take above what it has when model and threads stand
RUNS = 3
ROWS_OF_TABLE = {"2 threads ahead": 2, "1 thread ahead": 1, "no thread": 0, "everything in memory first": None}


def main() -> None:
    """Print the table and write ``results/feeding.json``."""
    store = make_store(WORK / "store")
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    found: dict[str, Any] = {}
    for _ in range(RUNS):  # turn by turn, so that a slow minute hits all alike
        for name, threads in ROWS_OF_TABLE.items():
            evict(store)
            found.setdefault(name, []).append(child(threads))
    results = {name: summary(runs) for name, runs in found.items()}
    print(f"\n{size / 2**30:.1f} GiB of records; {ROOM / 2**30:.1f} GiB allowed above model and threads\n")
    print(table([["", "waiting for data, %", "ms a step"], *([name, *cells(one)] for name, one in results.items())]))
    print("\nwrote", save("feeding", {"store": size, "room": ROOM, "pictures": PICTURES, "rows": results}))


def summary(runs: list[dict[str, float] | None]) -> dict[str, Any]:
    """Median, best and worst of each figure; nothing of runs that ended for want of memory."""
    done = [run for run in runs if run is not None]
    figures: dict[str, Any] = {"runs": len(runs), "out of memory": len(runs) - len(done)}
    for name in done[0] if done else ():
        values = [run[name] for run in done]
        figures[name] = {"median": statistics.median(values), "best": min(values), "worst": max(values)}
    return figures


def cells(row: dict[str, Any]) -> list[str]:
    """The figures of a row, with their spread."""
    if row["out of memory"]:
        return ["out of memory", ""]
    return [f"{one['median']:.2f} ({one['best']:.2f} to {one['worst']:.2f})" for one in (row["waiting"], row["step"])]


def make_store(path: Path) -> Path:
    """The synthetic store, a question about each picture, and the recipe; kept for the next time."""
    if not (WORK / "recipe.yaml").exists():
        shutil.rmtree(WORK, ignore_errors=True)
        draw, boxes = np.random.default_rng(0), np.tile(np.float32([0, 0, 320, 240]), (ROWS, 1))
        create_store(
            path, "lmdb", region_schema(DIM, "float16", attributes=False, rows=ROWS), {"extractor": "noise"}, {}
        )
        noise = draw.standard_normal((64, ROWS, DIM)).astype(np.float16)
        named = {"object_ids": np.zeros(ROWS, np.int32), "object_confs": np.ones(ROWS, np.float32)}
        with open_part(path) as writer:
            for i in range(PICTURES):
                writer.put(f"p{i:05d}", Record(noise[i % 64], boxes, (480, 640), ROWS, named), i)
                if i % 64 == 63:
                    writer.commit()
            writer.finish()
        order = draw.permutation(PICTURES)
        asked = [{"question_id": i, "img_id": f"p{n:05d}", "sent": f"is it {i % 50} ?", "label": {str(i % 9): 1.0}}
                 for i, n in enumerate(order.tolist())]  # fmt: skip
        (WORK / "questions.json").write_text(json.dumps(asked))
        (WORK / "recipe.yaml").write_text(yaml.safe_dump(recipe(path)))
    return path


def recipe(store: Path) -> dict[str, Any]:
    """That of the default LXMERT, on one pass over the synthetic questions."""
    base = yaml.safe_load((WORK.parent.parent / "configs" / "lxmert_scenes.yaml").read_text())
    base["data"] = {"train": {"questions": str(WORK / "questions.json")}, "answers": {"least": 1}}
    base["train"] |= {"epochs": 1, "evaluate_every": None, "lr": 1e-3}
    del base["model"]["whiten"]  # of the features of a detector; noise has no strong directions
    return {**base, "store": str(store)}


def evict(store: Path) -> None:
    """Let the kernel drop the pages of the store, so that they come from the disk again."""
    for path in store.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def child(threads: int | None) -> dict[str, float] | None:
    """A run in a process of its own: percent of its time spent waiting, milliseconds a step. None: out of memory."""
    line = [sys.executable, "-m", "benchmarks.feeding", "memory" if threads is None else str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a core for the model, one for all else
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    if "MemoryError" in done.stderr or "allocate memory" in done.stderr:
        return None
    sys.exit(done.stderr)


def run(kind: str) -> None:
    """The child: warm up, take the limit, train, print the figures."""
    made, config = read_recipe(WORK / "recipe.yaml", []), {"workers": 1 if kind == "memory" else int(kind)}
    settings = made.train.to_dict() | config
    out = WORK / f"run-{kind}"
    with open_store(str(made.store)) as store:
        train(made.build(), store, TrainConfig.from_dict(settings | {"max_steps": 3}), out, fresh=True)
        limit = _data() + ROOM
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        kept = [store[key].features.copy() for key in list(store.keys())] if kind == "memory" else []
        outcome = train(made.build(), store, TrainConfig.from_dict(settings), out, fresh=True)
    print(json.dumps({"waiting": 100 * outcome.data, "step": 1000 * outcome.seconds / outcome.steps}))
    del kept


def _data() -> int:
    """Bytes of memory of its own that this process has; pages of a mapped file are not among them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


if __name__ == "__main__":
    run(sys.argv[1])
