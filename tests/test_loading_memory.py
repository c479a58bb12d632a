"""Memory: a store larger than what its readers may have, and batches that cost no page of fresh memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part
from tests.dataloader_loop import EPOCHS, ROOM, WORKERS

ROOT = Path(__file__).resolve().parent.parent
ROWS, DIM = 36, 1024
PICTURES = 1200  # 74 KiB each
SLACK = 3 << 20  # two batches on their way; an epoch reads 150

linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is measured as Linux tells it")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("memory") / "store"
    noise = np.random.default_rng(0).standard_normal((8, ROWS, DIM)).astype(np.float16)
    boxes = np.tile(np.float32([0, 0, 320, 240]), (ROWS, 1))
    named = {"object_ids": np.zeros(ROWS, np.int32), "object_confs": np.ones(ROWS, np.float32)}
    create_store(path, "lmdb", region_schema(DIM, "float16", attributes=False, rows=ROWS), {"extractor": "noise"}, {})
    with open_part(path) as writer:
        for i in range(PICTURES):
            writer.put(f"p{i:05d}", Record(noise[i % 8], boxes, (480, 640), ROWS, named), i)
            if i % 128 == 127:
                writer.commit()
        writer.finish()
    yield path
    for file in path.rglob("*.lmdb"):
        file.unlink()


def child(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    # By default glibc keeps freed batches, a few or twenty as chance will have it, which is not what is asked here.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    line = [sys.executable, "-W", "ignore:This DataLoader will create", "-m", module, *words]
    return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_four_workers_read_a_store_four_times_their_memory_and_need_no_more_as_time_goes_by(
    store: Path, method: str
) -> None:
    size = sum(file.stat().st_size for file in store.rglob("*.lmdb"))
    assert size > 4 * ROOM * (WORKERS + 1), "of all processes together"
    done = child("tests.dataloader_loop", str(store), method, "flows")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    noise = np.random.default_rng(0).standard_normal((8, ROWS, DIM)).astype(np.float16).astype(np.float64)
    right = sum(noise[i % 8].sum() for i in range(PICTURES))
    assert told["sums"] == pytest.approx([right] * EPOCHS), "every record, in every epoch"
    assert len(told["had"]) == WORKERS + 1
    for epochs in told["had"]:
        assert len(epochs) == EPOCHS
        assert max(chain(*epochs[1:])) <= max(epochs[0]) + SLACK


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_keep_what_they_read_come_to_the_limit(store: Path, method: str) -> None:
    """The limit bites, or it shows nothing."""
    done = child("tests.dataloader_loop", str(store), method, "keeps")
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "Cannot allocate memory" in done.stderr or "can't allocate" in done.stderr


@linux
def test_a_batch_of_the_loader_costs_next_to_no_page_of_fresh_memory(store: Path) -> None:
    done = child("tests.loader_faults", str(store))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["buffers"] <= 3
    assert told["ring"] < 0.1 * told["pages"], "faults a batch, and the pages that a batch fills"
    assert told["fresh"] > 0.5 * told["pages"], "what a batch in fresh memory costs, or the count shows nothing"
