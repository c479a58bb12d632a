"""A store larger than the memory a process may have trains all the same: records are read from the map, and let go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy_task import make_store

ROOT = Path(__file__).resolve().parent.parent
RECORD = 64 * 1024  # floats
COUNT = 400  # 100 MiB
ROOM = 32 << 20  # bytes above what the process has when its model stands

# RLIMIT_DATA counts what a process may write to and does not share: heap, buffers, copies, stacks. Pages of a file that
# is mapped for reading do not count, and are the kernel's to drop.
CHILD = """
import json, resource, sys
from pathlib import Path
import torch
from featx.store import open_store
from featx.train import TrainConfig, train
from tests.toy_task import Toy

def data():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))

class All(Toy):
    def examples(self, split):
        if split == "train":
            self.kept = [store[key].features.copy() for key in store.keys()]
        return super().examples(split)

where, out, kind, room, count, dim = sys.argv[1:]
options = {"train": int(count) - 8, "val": 8, "pictures": int(count), "wants": {"dim": int(dim)}}
with open_store(where) as store:
    warm = TrainConfig(epochs=1, batch=8, workers=2, max_steps=3)
    train(Toy(**options), store, warm, out + "-warm")  # threads, arenas and kernels are there from now on
    limit = data() + int(room)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    task = {"all": All, "map": Toy}[kind](**options)
    outcome = train(task, store, TrainConfig(epochs=1, batch=8, workers=2), out)
    print(json.dumps({"steps": outcome.steps, "size": sum(f.stat().st_size for f in Path(where).rglob("*.*"))}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is measured the way Linux tells it")
@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_store_larger_than_the_memory_allowed_trains_an_epoch(backend: str, tmp_path: Path) -> None:
    dim = RECORD // 4
    store = make_store(tmp_path / "store", COUNT, dim=dim, rows=4, backend=backend)

    def child(kind: str) -> subprocess.CompletedProcess[str]:
        words = [str(store), str(tmp_path / kind), kind, str(ROOM), str(COUNT), str(dim)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", CHILD, *words], env=environment, capture_output=True, text=True, check=False
        )

    done = child("map")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["steps"] == (COUNT - 8) // 8
    assert told["size"] > 3 * ROOM
    greedy = child("all")
    assert greedy.returncode != 0, "the limit must bite, or it shows nothing"
    assert "MemoryError" in greedy.stderr or "Cannot allocate memory" in greedy.stderr
