"""Memory of a cached epoch: it depends neither on the number of pictures nor on the tower they were looked at with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from featx.registry import load
from featx.train import seed_everything
from tests.cached_toys import TOYS, options_of

ROOT = Path(__file__).resolve().parent.parent
FEW, TIMES = 96, 8
ROOM = 24 << 20  # bytes above what a process has after some steps: a second model, its optimiser, batches, examples

# RLIMIT_DATA counts what a process may write to and does not share, and not the pages of a mapped file: see
# test_train_memory. A few steps bring threads, arenas and kernels; after that, an epoch on few pictures and one on many
# may have the same. Then one that keeps what it has seen, for which the limit is too low.
COMMON = """
import gc, json, resource, sys
from pathlib import Path
from featx.registry import load
from featx.train import TrainConfig, seed_everything, train

task, out, few, many, room = sys.argv[1:]
few, many = json.loads(few), json.loads(many)
settings = {"epochs": 1, "batch": 8, "workers": 1, "evaluate_every": None, "keep": 1}

def data(name="VmData"):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

def built(options):
    seed_everything(0)
    made = load("featx.tasks", task).from_options(options)
    of_pictures = {made.key(one): one for one in made.examples("train")}  # one of each, to be quick
    made.examples = lambda split: list(of_pictures.values()) if split == "train" else []
    return made

def epoch(made, options, name, **changes):
    config = TrainConfig.from_dict({**settings, **changes})
    return train(made, options["store"], config, Path(out) / name, allow_mismatch=True).steps

epoch(built(few), few, "warm", max_steps=3)
gc.collect()
limit = data() + int(room)
"""
CHILD = """
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
steps = [epoch(built(few), few, "few"), epoch(built(many), many, "many")]
made = built(many)
names = [name for name, _ in made.model.named_parameters()]
told = {"steps": steps, "names": names, "extractors": "featx_extractors" in sys.modules}

kept = []
prepare = made.prepare
def keeping(examples, records, rngs):
    kept.append(records.features.clone())
    return prepare(examples, records, rngs)
made.prepare = keeping
try:
    epoch(made, many, "kept")
    told["bites"] = False
except (MemoryError, RuntimeError, OSError) as error:  # an OSError where a map is refused
    del made, prepare
    kept.clear()
    told["bites"] = "memory" in f"{type(error).__name__} {error}".lower()
print(json.dumps(told))
"""
# The file stays mapped where the network's own tensors are pages of it. Those of the tower are the kernel's to drop:
# they count in VmData, and not in RssAnon, which is memory without a file behind it.
WHOLE = """
before = data("RssAnon")
made = built(many)
gc.collect()
told = {"kept": data("RssAnon") - before, "weights": made.wants().weights}
limit = data() + int(room)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(json.dumps({**told, "steps": epoch(made, many, "many", max_steps=8)}))
"""
NEW = [task for task, toy in TOYS.items() if toy.large]

linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the limit is measured the way Linux tells it"
)


def stored(options: dict[str, Any]) -> int:
    """Bytes of the store."""
    return sum(file.stat().st_size for file in Path(options["store"]).rglob("*.lmdb"))


def child(code: str, task: str, out: Path, few: dict[str, Any], many: dict[str, Any]) -> dict[str, Any]:
    """What a process said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", COMMON + code, task, str(out), json.dumps(few), json.dumps(many), str(ROOM)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@linux
@pytest.mark.parametrize("task", NEW)
def test_an_epoch_on_eight_times_the_pictures_needs_no_more_memory(task: str, tmp_path: Path) -> None:
    sets = {count: tmp_path / str(count) for count in (FEW, FEW * TIMES)}
    few, many = (options_of(task, where, n, 0.1, TOYS[task].large) for n, where in sets.items())
    for options in (few, many):
        options["data"].pop("val")
    assert stored(many) > 2 * ROOM > 2 * stored(few)
    assert stored(many) > (TIMES - 1) * stored(few)
    told = child(CHILD, task, tmp_path, few, many)
    assert told["steps"][1] == TIMES * told["steps"][0]
    assert told["bites"], "the limit must bite, or it shows nothing"
    assert not told["extractors"], "an epoch on a cache has no use for a tower"
    assert not [name for name in told["names"] if "patch_embedding" in name]


@linux
@pytest.mark.parametrize("task", {toy.tower: task for task, toy in TOYS.items() if toy.tower}.values())  # of each model
def test_the_tower_within_a_checkpoint_takes_no_memory_while_an_epoch_runs(task: str, tmp_path: Path) -> None:
    """As published checkpoints are: the tower, four times what an epoch may have, is hashed and let go."""
    options, folder = options_of(task, tmp_path / "data", 16, 0.1), tmp_path / "whole"
    folder.mkdir()
    seed_everything(0)
    made = load("featx.tasks", task).from_options(options)
    made.export(folder, {"provenance": {}, "labels": {}, "figures": {}, "epoch": 1})
    (folder / "featx.json").unlink()
    tower = {"embeddings.patch_embedding.weight": torch.ones(4, 3, 2, 2), "block.weight": torch.ones(ROOM)}
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **{TOYS[task].tower + n: t for n, t in tower.items()}}, folder / "model.safetensors")
    whole = {**options, "model": {"weights": str(folder), "max_length": options["model"]["max_length"]}}
    told = child(WHOLE, task, tmp_path, options, whole)
    assert told["steps"] > 0
    assert told["kept"] < ROOM
    assert told["weights"] is not None, "the tower was there, and was looked at"
