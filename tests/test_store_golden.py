"""Stores of earlier releases stay readable: ``tests/golden_bytes`` holds one of each format version and backend.

A fixture is never written again; a new format version adds new ones.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from featx.codec import store_key
from featx.errors import UsageError
from featx.record import Record
from featx.schema import Array, Field, Schema
from featx.store import create_store, open_store, verify

GOLDEN = Path(__file__).parent / "golden_bytes"
SCHEMA = Schema(
    (
        Field("features", "bfloat16", (2,)),
        Field("boxes", "float32", (4,)),
        Field("object_ids", "int64"),
        Field("pooled", "float16", (3,), "picture"),
    )
)
ORDER = ["long/" * 100 + ".jpg", "né.jpg", "b.jpg"]


def record(rows: int, count: int, size: tuple[int, int]) -> Record:
    """Small numbers that every dtype holds exactly."""
    boxes = np.array([[0.5, 1, 2.25, 3]] * rows, np.float32).reshape(rows, 4)
    features = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / 4
    extra: dict[str, Array] = {"object_ids": np.arange(rows) - 1, "pooled": np.array([rows, -0.5, 65504], np.float16)}
    return Record(features, boxes, size, count, extra)


EXPECTED = {"b.jpg": record(1, 1, (3, 4)), "né.jpg": record(3, 2, (480, 640)), ORDER[0]: record(0, 0, (5, 6))}


DIGEST = "c70e31de074a6280b71207f9bebfc816"


@pytest.fixture(params=["v1-lmdb", "v1-hdf5"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "store"))


def test_a_store_of_an_earlier_release_reads_as_it_was_written(golden: Path) -> None:
    store = open_store(golden)
    assert list(store) == ["b.jpg", ORDER[0], "né.jpg"]
    assert list(store.keys("source")) == ORDER
    for key, expected in EXPECTED.items():
        assert store[key] == expected
    assert [(r.key, r.ordinal, r.reason) for r in store.failures()] == [("broken.jpg", 3, "truncated")]
    assert store.labels == {"objects": ["cat", "dog"]}
    assert store.schema == SCHEMA
    assert store.manifest.sources == {"pictures": 4, "sha256": "a3" * 32}
    assert [(part.part, part.totals.records) for part in store.parts] == [(0, 2), (1, 1)]


def test_the_digest_of_an_earlier_release_is_still_ours(golden: Path) -> None:
    report = verify(golden)
    assert report.problems == []
    assert report.totals.digest == DIGEST


def test_the_digest_is_the_sum_that_the_specification_says(golden: Path) -> None:
    store, total = open_store(golden), 0
    for key in EXPECTED:
        checksum = store.stored_bytes(key)[40:48]
        total += xxhash.xxh3_128_intdigest(store_key(key) + b"\0" + checksum)
    assert f"{total % 2**128:032x}" == DIGEST


def test_the_frame_of_a_sealed_hdf5_file_is_the_hash_that_the_specification_says() -> None:
    folder = GOLDEN / "v1-hdf5/parts/00000-of-00002"
    state = xxhash.xxh3_128()
    with h5py.File(folder / "records-00000.h5") as file:
        for name in ("keys", "start", "count", "size", "ordinal", "checksum"):
            state.update(file[name][()].tobytes())
    assert json.loads((folder / "part.json").read_text())["frames"] == {"records-00000.h5": state.hexdigest()}


def test_the_frame_of_an_lmdb_file_is_the_hash_that_the_specification_says() -> None:
    folder = GOLDEN / "v1-lmdb/parts/00000-of-00002"
    data = (folder / "records.lmdb").read_bytes()
    newer = max((0, 4096), key=lambda page: struct.unpack_from("<Q", data, page + 144))  # by number of commit
    (root,) = struct.unpack_from("<Q", data, newer + 128)  # with two records the root is the only leaf
    frame = xxhash.xxh3_128_hexdigest(data[:8192] + data[root * 4096 : (root + 1) * 4096])
    assert json.loads((folder / "part.json").read_text())["frames"] == {"records.lmdb": frame}


def test_a_store_of_an_earlier_release_can_be_read_without_write_permission(golden: Path) -> None:
    before = sorted(golden.rglob("*"))
    store = open_store(golden)
    assert len([store[key] for key in store]) == 3
    assert sorted(golden.rglob("*")) == before  # not even a lock file


def test_a_run_of_another_make_does_not_write_into_it(golden: Path) -> None:
    with pytest.raises(UsageError, match=r"provenance\.made by: the store has 'featx 0\.1\.0'") as caught:
        create_store(golden, "lmdb", SCHEMA, {"made by": "me"}, parts=2, sources={"pictures": 5, "sha256": "a3" * 32})
    assert "the store was begun with 4 pictures, this list has 5" in caught.value.message


def test_a_checksum_of_a_manifest_is_that_of_its_ascii_form(golden: Path) -> None:
    for path in [golden / "manifest.json", *golden.rglob("part.json")]:
        content = json.loads(path.read_text("ascii"))
        said = content.pop("checksum")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert xxhash.xxh3_64_hexdigest(text.encode("ascii")) == said
