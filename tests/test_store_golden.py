"""Stores of earlier releases stay readable: ``tests/golden_bytes`` holds one of each format version and backend.

A fixture is never written again; a new format version adds new ones. Those of version 2 were made by :func:`write`
below, by featx 0.1.0 with h5py 3.16: ``v2-lmdb`` and ``v2-hdf5`` are complete, ``v2-open`` lacks the end of part 1.
``v2-hdf5-fixed`` has records of two rows each, which its files hold in place.
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
from featx.errors import StoreError, UsageError
from featx.record import Record
from featx.schema import Array, Field, Schema
from featx.store import StoreReader, create_store, open_part, open_store, verify

GOLDEN = Path(__file__).parent / "golden_bytes"
SCHEMA = Schema(
    (
        Field("features", "bfloat16", (2,)),
        Field("boxes", "float32", (4,)),
        Field("object_ids", "int64"),
        Field("pooled", "float16", (3,), "picture"),
    )
)
SCHEMA_2 = Schema((*SCHEMA.fields, Field("codes", "int8", (3,))))
LABELS = {"objects": ["cat", "dog"]}
ORDER = ["long/" * 100 + ".jpg", "né.jpg", "b.jpg"]


def record(rows: int, count: int, size: tuple[int, int]) -> Record:
    """Small numbers that every dtype holds exactly."""
    boxes = np.array([[0.5, 1, 2.25, 3]] * rows, np.float32).reshape(rows, 4)
    features = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / 4
    extra: dict[str, Array] = {"object_ids": np.arange(rows) - 1, "pooled": np.array([rows, -0.5, 65504], np.float16)}
    return Record(features, boxes, size, count, extra)


def write(path: Path, backend: str, *, finish: bool = True, rows: int | None = None) -> None:
    """What the fixtures of version 2 hold: two parts, three records, one refusal."""
    schema, records = Schema(SCHEMA_2.fields, rows=rows), expected(2, rows)
    sources = {"pictures": 4, "sha256": "a3" * 32}
    create_store(path, backend, schema, {"made by": "featx 0.1.0"}, LABELS, parts=2, sources=sources)
    for part, ordinals in enumerate(((0, 1), (2,))):
        with open_part(path, part) as writer:
            for ordinal in ordinals:
                writer.put(ORDER[ordinal], records[ORDER[ordinal]], ordinal)
                writer.commit()
            if part == 0:
                writer.refuse("broken.jpg", 3, "/photos/broken.jpg", "truncated", "the file ends early")
            if part == 0 or finish:
                writer.finish()


def with_codes(old: Record) -> Record:
    """A record of version 2: with numbers that int8 holds exactly, from 0 to 255 times the row's number."""
    rows = len(old.features)
    codes = np.outer(np.arange(1, rows + 1), [0, 255, 128]).astype(np.float32)
    return Record(old.features, old.boxes, old.size, old.count, {**old.extra, "codes": codes})


EXPECTED_FIXED = {"b.jpg": record(2, 1, (3, 4)), "né.jpg": record(2, 2, (480, 640)), ORDER[0]: record(2, 0, (5, 6))}
EXPECTED = {"b.jpg": record(1, 1, (3, 4)), "né.jpg": record(3, 2, (480, 640)), ORDER[0]: record(0, 0, (5, 6))}


DIGESTS = {  # by format and rows
    (1, None): "c70e31de074a6280b71207f9bebfc816",
    (2, None): "92a2cb44de6301ca2339b74ec9f258cb",
    (2, 2): "de422c164fd71cc2c73d4cede5d5d191",
}
VERSIONS = ["v1-lmdb", "v1-hdf5", "v2-lmdb", "v2-hdf5", "v2-hdf5-fixed"]


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "store"))


def kind_of(store: StoreReader) -> tuple[int, int | None]:
    """Format, and the rows of every record."""
    return store.manifest.format, store.schema.rows


def expected(format: int, rows: int | None = None) -> dict[str, Record]:
    """What the fixtures of a version hold, whose records have ``rows`` rows."""
    records = EXPECTED if rows is None else EXPECTED_FIXED
    return {key: record if format == 1 else with_codes(record) for key, record in records.items()}


def test_a_store_of_an_earlier_release_reads_as_it_was_written(golden: Path) -> None:
    store = open_store(golden)
    assert list(store) == ["b.jpg", ORDER[0], "né.jpg"]
    assert list(store.keys("source")) == ORDER
    for key, record in expected(*kind_of(store)).items():
        assert store[key] == record
    assert [(r.key, r.ordinal, r.reason) for r in store.failures()] == [("broken.jpg", 3, "truncated")]
    assert store.labels == LABELS
    fields = SCHEMA.fields if store.manifest.format == 1 else SCHEMA_2.fields
    assert store.schema == Schema(fields, rows=store.schema.rows)
    assert store.manifest.sources == {"pictures": 4, "sha256": "a3" * 32}
    assert [(part.part, part.totals.records) for part in store.parts] == [(0, 2), (1, 1)]


def test_the_digest_of_an_earlier_release_is_still_ours(golden: Path) -> None:
    report = verify(golden)
    assert report.problems == []
    assert report.totals.digest == DIGESTS[kind_of(open_store(golden))]


def test_the_digest_is_the_sum_that_the_specification_says(golden: Path) -> None:
    store, total = open_store(golden), 0
    for key in EXPECTED:
        checksum = store.stored_bytes(key)[40:48]
        total += xxhash.xxh3_128_intdigest(store_key(key) + b"\0" + checksum)
    assert f"{total % 2**128:032x}" == DIGESTS[kind_of(store)]


def test_what_is_written_today_has_the_bytes_of_the_fixtures(tmp_path: Path) -> None:
    write(tmp_path / "lmdb", "lmdb")
    write(tmp_path / "open", "lmdb", finish=False)
    for name, fixture in (("lmdb", "v2-lmdb"), ("open", "v2-open")):
        for path in (path for path in (GOLDEN / fixture).rglob("*") if path.suffix in (".log", ".lmdb", ".jsonl")):
            assert (tmp_path / name / path.relative_to(GOLDEN / fixture)).read_bytes() == path.read_bytes()
    for part in (GOLDEN / "v2-lmdb").rglob("part.json"):
        said = json.loads(part.read_text())
        assert json.loads((tmp_path / "lmdb" / part.relative_to(GOLDEN / "v2-lmdb")).read_text()) == said
    write(tmp_path / "fixed", "hdf5", rows=2)
    for path in (GOLDEN / "v2-hdf5-fixed").rglob("*"):
        same = tmp_path / "fixed" / path.relative_to(GOLDEN / "v2-hdf5-fixed")
        assert path.is_dir() or path.name == "manifest.json" or same.read_bytes() == path.read_bytes()
    write(tmp_path / "hdf5", "hdf5")
    with open_store(tmp_path / "hdf5") as store:
        assert store.manifest.totals == open_store(GOLDEN / "v2-hdf5").manifest.totals


def test_an_open_part_of_an_earlier_release_reads_and_goes_on(tmp_path: Path) -> None:
    path = Path(shutil.copytree(GOLDEN / "v2-open", tmp_path / "store"))
    with open_store(path, partial=True) as store:
        assert {key: store[key] for key in store} == expected(2)
    with open_part(path, 1) as writer:
        assert "b.jpg" in writer.done
        writer.finish()
    assert verify(path).totals.digest == DIGESTS[2, None]
    (file,) = path.glob("parts/00001-of-00002/records.lmdb")
    assert file.read_bytes() == (GOLDEN / "v2-lmdb/parts/00001-of-00002/records.lmdb").read_bytes()


def unfinished(golden: Path) -> Path:
    """The store as if its last writer, of format 1, had not come to its end."""
    manifest, part = golden / "manifest.json", golden / "parts/00001-of-00002"
    data = {**json.loads(manifest.read_text()), "complete": False, "totals": None}
    del data["checksum"]
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    manifest.write_text(json.dumps({**data, "checksum": xxhash.xxh3_64_hexdigest(canonical)}))
    names = json.loads((part / "part.json").read_text())["aliases"].values()
    (part / "aliases.jsonl").write_text("".join(json.dumps({"key": name}) + "\n" for name in names))
    (part / "part.json").unlink()
    for sealed in part.glob("*.h5"):  # format 1 wrote HDF5 parts as LMDB files
        sealed.unlink()
        shutil.copy(GOLDEN / "v1-lmdb/parts/00001-of-00002/records.lmdb", part / "journal-00000.lmdb")
    return golden


@pytest.mark.parametrize("name", ["v1-lmdb", "v1-hdf5"])
def test_a_part_that_format_1_left_unfinished_can_be_read_and_is_not_written(tmp_path: Path, name: str) -> None:
    path = unfinished(Path(shutil.copytree(GOLDEN / name, tmp_path / "store")))
    with open_store(path, partial=True) as store:
        assert {key: store[key] for key in store} == EXPECTED
    assert verify(path).problems == []
    before = {file: file.read_bytes() for file in path.rglob("records*")}
    for part, retry in ((1, False), (0, True)):
        with pytest.raises(StoreError, match="was begun in format 1, this featx writes format 2") as caught:
            open_part(path, part, retry_refused=retry)
        assert "partial=True" in caught.value.hint
    assert {file: file.read_bytes() for file in path.rglob("records*")} == before


@pytest.mark.parametrize("name", ["v1-lmdb", "v1-hdf5"])
def test_a_finished_part_of_format_1_is_done(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copytree(GOLDEN / name, tmp_path / "store"))
    with open_part(path, 0) as writer:
        assert writer.finished is not None
        assert "né.jpg" in writer.done
        writer.finish()
    assert open_store(path).manifest.format == 1


@pytest.mark.parametrize("version", ["v1-hdf5", "v2-hdf5", "v2-hdf5-fixed"])
def test_the_frame_of_a_sealed_hdf5_file_is_the_hash_that_the_specification_says(version: str) -> None:
    folder = GOLDEN / version / "parts/00000-of-00002"
    state = xxhash.xxh3_128()
    with h5py.File(folder / "records-00000.h5") as file:
        for name in (
            "keys",
            "offset" if version.endswith("fixed") else "start",
            "count",
            "size",
            "ordinal",
            "checksum",
        ):
            state.update(file[name][()].tobytes())
    assert json.loads((folder / "part.json").read_text())["frames"] == {"records-00000.h5": state.hexdigest()}


@pytest.mark.parametrize(("version", "size"), [(1, 4096), (2, 2048)])
def test_the_frame_of_an_lmdb_file_is_the_hash_that_the_specification_says(version: int, size: int) -> None:
    folder = GOLDEN / f"v{version}-lmdb/parts/00000-of-00002"
    data = (folder / "records.lmdb").read_bytes()
    newer = max((0, size), key=lambda page: struct.unpack_from("<Q", data, page + 144))  # by number of commit
    (root,) = struct.unpack_from("<Q", data, newer + 128)  # with two records the root is the only leaf
    frame = xxhash.xxh3_128_hexdigest(data[: 2 * size] + data[root * size : (root + 1) * size])
    assert json.loads((folder / "part.json").read_text())["frames"] == {"records.lmdb": frame}


def test_the_hash_of_a_file_is_that_which_the_specification_says() -> None:
    for version in VERSIONS:
        for part in (GOLDEN / version).rglob("part.json"):
            for name, said in json.loads(part.read_text())["hashes"].items():
                data = (part.parent / name).read_bytes()
                if (version, name[:7]) in (("v2-lmdb", "records"), ("v2-hdf5-fixed", "records")):
                    assert said == "tail:" + xxhash.xxh3_128_hexdigest(data[4096:] + data[:4096])
                else:
                    assert said == xxhash.xxh3_128_hexdigest(data)


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
