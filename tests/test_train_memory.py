"""A store larger than the memory a process may have trains all the same: records are read from the map, and let go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part
from tests.toy_task import make_store

ROOT = Path(__file__).resolve().parent.parent
RECORD = 64 * 1024  # floats
COUNT = 400  # 100 MiB
ROOM = 32 << 20  # bytes above what the process has when its model stands
PICTURES = 1024  # of published sizes: 145 MiB
LXMERT_ROOM = 64 << 20  # the second model, what it is optimised with, and batches of 36 x 2048 floats

# RLIMIT_DATA counts what a process may write to and does not share: heap, buffers, copies, stacks. Pages of a file that
# is mapped for reading do not count, and are the kernel's to drop.
LIMITED = """
import json, resource, sys
from pathlib import Path
from featx.store import open_store
from featx.train import TrainConfig, train
from featx.train.recipe import read_recipe
from tests.toy_task import Toy

def data():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))

def limit(room):
    resource.setrlimit(resource.RLIMIT_DATA, (data() + int(room),) * 2)

def size(where):
    return sum(file.stat().st_size for file in Path(where).rglob("*.*"))
"""

TOYS = """
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
    limit(room)
    task = {"all": All, "map": Toy}[kind](**options)
    outcome = train(task, store, TrainConfig(epochs=1, batch=8, workers=2), out)
    print(json.dumps({"steps": outcome.steps, "size": size(where)}))
"""

LXMERT = """
recipe, out, room = sys.argv[1:]
made = read_recipe(recipe)
settings = made.train.to_dict()
with open_store(made.store) as store:
    train(made.build(), store, TrainConfig.from_dict({**settings, "max_steps": 3}), out + "-warm")
    limit(room)
    outcome = train(made.build(), store, made.train, out)
    print(json.dumps({"steps": outcome.steps, "data": outcome.data, "said": str(outcome), "size": size(made.store)}))
"""


def child(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", LIMITED + code, *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the limit is measured the way Linux tells it"
)


@linux
@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_store_larger_than_the_memory_allowed_trains_an_epoch(backend: str, tmp_path: Path) -> None:
    dim = RECORD // 4
    store = make_store(tmp_path / "store", COUNT, dim=dim, rows=4, backend=backend)

    def trained(kind: str) -> subprocess.CompletedProcess[str]:
        return child(TOYS, str(store), str(tmp_path / kind), kind, str(ROOM), str(COUNT), str(dim))

    done = trained("map")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["steps"] == (COUNT - 8) // 8
    assert told["size"] > 3 * ROOM
    greedy = trained("all")
    assert greedy.returncode != 0, "the limit must bite, or it shows nothing"
    assert "MemoryError" in greedy.stderr or "Cannot allocate memory" in greedy.stderr


def published_sizes(path: Path) -> Path:
    """Records of 36 regions with 2048 features, in float16."""
    noise = np.random.default_rng(0).standard_normal((8, 36, 2048)).astype(np.float16)
    boxes = np.tile(np.float32([0, 0, 320, 240]), (36, 1))
    named = {"object_ids": np.zeros(36, np.int32), "object_confs": np.ones(36, np.float32)}
    create_store(path, "lmdb", region_schema(2048, "float16", attributes=False, rows=36), {"extractor": "noise"}, {})
    with open_part(path) as writer:
        for i in range(PICTURES):
            writer.put(f"p{i:05d}", Record(noise[i % 8], boxes, (480, 640), 36, named), i)
            if i % 64 == 63:
                writer.commit()
        writer.finish()
    return path


def recipe_of_the_default(path: Path, store: Path) -> Path:
    """The default LXMERT's sizes and settings, on one pass over a question to each picture."""
    asked = [
        {"question_id": i, "img_id": f"p{i:05d}", "sent": f"is it {i % 50} ?", "label": {str(i % 9): 1.0}}
        for i in range(PICTURES)
    ]
    path.with_suffix(".json").write_text(json.dumps(asked))
    recipe = yaml.safe_load((ROOT / "configs/lxmert_scenes.yaml").read_text())
    recipe["data"] = {"train": {"questions": str(path.with_suffix(".json"))}, "answers": {"least": 1}}
    recipe["train"] |= {"epochs": 1, "batch": 16, "lr": 1e-4, "precision": "float32"}
    del recipe["model"]["whiten"]  # looks at a thousand pictures at once
    path.write_text(yaml.safe_dump({**recipe, "store": str(store)}))
    return path


def evict(store: Path) -> None:
    """Let the kernel drop the pages of the store, so that they come from the disk again."""
    for path in (path for path in store.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@linux
def test_the_default_lxmert_trains_on_more_than_its_memory_and_tells_how_long_it_waited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share itself depends on what else the machine does; here, that it is measured and told."""
    store = published_sizes(tmp_path / "store")
    recipe = recipe_of_the_default(tmp_path / "recipe.yaml", store)
    evict(store)
    done = child(LXMERT, str(recipe), str(tmp_path / "run"), str(LXMERT_ROOM))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with capsys.disabled():
        print(f" {told['data']:.2%} of the time waiting for data ", end="")
    assert told["size"] > 2 * LXMERT_ROOM
    assert told["steps"] == PICTURES // 16
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [event["time"]["data"] for event in events if event["event"] == "end"] == [told["data"]]
    assert all(0 <= event["time"]["data"] <= 1 for event in events if event["event"] in ("train", "epoch"))
    assert 0 <= told["data"] <= 1
    assert f"{told['data']:.1%} of it waiting for data" in told["said"]
