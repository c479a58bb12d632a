"""Conversions stream: what a process may take in memory is far less than what it converts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featx.formats import FORMATS, get
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part
from tests.test_formats_convert import sizes_of

WRITERS = [name for name in FORMATS if get(name).writes]
PICTURES, ROWS, DIM = 1000, 36, 1024  # 147 MB of float32
ALLOWED = 60 << 20  # bytes besides what the process has when all is imported; HDF5 alone keeps up to 32 MB of metadata

# Mapped files are the kernel's to drop; what counts is memory that has no file behind it.
CHILD = """
import sys, threading, time
from pathlib import Path
from featx.cli import main
import h5py, lmdb, numpy, featx.formats.importer
from featx.formats import get
get(sys.argv[1])
def own():
    status = Path("/proc/self/status").read_text()
    return int(status[status.index("RssAnon:"):].split()[1]) << 10
seen = [own()]
def watch():
    while True:
        seen.append(own())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
code = main(sys.argv[2:])
print(max(seen) - seen[0])
raise SystemExit(code)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "store"
    rng = np.random.default_rng(1)
    create_store(path, "lmdb", region_schema(DIM, "float32", rows=ROWS), {}, {"objects": ["x"] * 9})
    boxes, ids = np.tile(np.float32([0, 0, 32, 16]), (ROWS, 1)), np.zeros(ROWS, np.int32)
    confs = np.full(ROWS, 0.5, np.float32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    features = rng.random((ROWS, DIM), np.float32).astype(np.float16).astype(np.float32)
    with open_part(path) as writer:
        for number in range(PICTURES):
            writer.put(str(100 + number), Record(features, boxes, (64, 128), ROWS, extra), number)
        writer.finish()
    return path


def convert(name: str, *words: str) -> int:
    """Convert in a process of its own. Returns the most memory that it took for it, bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, "convert", *words, "--quiet"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is counted is Linux's")
@pytest.mark.parametrize("name", WRITERS)
def test_a_conversion_needs_memory_for_a_few_records_only(tmp_path: Path, store: Path, name: str) -> None:
    form, out = get(name), tmp_path / "foreign"
    writing = convert(name, str(store), str(out), "--to", name)
    words = ["--allow-pickle"] if "allow_pickle" in form.takes else []
    if "sizes" in form.takes:
        words += ["--sizes", str(sizes_of(tmp_path / "sizes.json", PICTURES))]
    reading = convert(name, str(out), str(tmp_path / "again"), "--from", name, *words)
    assert max(writing, reading) < ALLOWED, f"writing took {writing:,} bytes, reading {reading:,}"
