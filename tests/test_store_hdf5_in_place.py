"""Records of fixed rows are sealed as HDF5 where they lie: h5py reads them, nothing is written twice or lost."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

from featx.codec import layout, store_key
from featx.errors import FeatxError, StoreDamaged, UsageError
from featx.schema import Field, Schema, region_schema
from featx.store import create_store, disk, hdf5_store, open_part, open_store, verify
from featx.store.hdf5_appendix import appendix
from featx.store.hdf5_arrays import write_arrays
from featx.store.hdf5_columns import COLUMNS, stays_in_place
from featx.store.hdf5_sealed import ArraysShard, PlacedShard, open_file
from featx.store.hdf5_structure import problems
from tests.disk_double import Failing
from tests.store_oracle import FIXED, PROVENANCE, make_store, names, record_of, write_missing
from tests.test_store_damage import fill

EVERY = Schema(
    (
        Field("features", "float16", (9,)),
        Field("boxes", "float32", (4,)),
        *(Field(f"f {dtype}", dtype, (3,)) for dtype in ("float16", "float32", "bfloat16", "int8", "int32", "int64")),
        Field("flags", "uint8", (2, 3)),
        Field("nothing", "float32", (0,)),
        Field("ids", "int32"),
        Field("größe", "float32", (), "picture"),
        Field("seen", "int64", (), "picture"),
        Field("pooled", "bfloat16", (5,), "picture"),
    ),
    rows=4,
)
TINY = Schema((Field("features", "float16", (1,)), Field("boxes", "float32", (4,))), rows=1)


class Unsynced(disk.Disk):
    def sync(self, path: Path) -> None:
        """Quicker, and of no matter where nobody cuts the power."""


def write(path: Path, keys: Sequence[str], schema: Schema) -> Path:
    """A store of these keys. Returns its file."""
    create_store(path, "hdf5", schema, PROVENANCE)
    with disk.using(Unsynced()), open_part(path) as writer:
        for ordinal, key in enumerate(keys):
            writer.put(key, record_of(key, schema, schema.rows), ordinal)
            if ordinal % 100 == 99:
                writer.commit()
        writer.finish()
    (file,) = path.rglob("*.h5")
    return Path(file)


def as_stored(values: Any, dtype: str) -> Any:
    """What h5py sees of an array of a record: numpy's own, and the bits of bfloat16, rounded to nearest even."""
    if dtype != "bfloat16":
        return values
    bits = values.view("<u4")
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


def mixed(count: int) -> list[str]:
    """Keys of differing lengths, in no order."""
    keys = [f"{n * 7919 % 100_003}{'é' * (n % 5)}{'x' * (n % 150)}" for n in range(count)]
    random.Random(count).shuffle(keys)
    return keys


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 300])
def test_anybody_with_h5py_reads_every_dataset(tmp_path: Path, count: int) -> None:
    keys = [*mixed(count - 1), "long " * 100]
    sealed = write(tmp_path / "s", keys, EVERY)
    with open_store(tmp_path / "s") as store:
        read = [store[key] for key in keys]
    with h5py.File(sealed) as file:
        stored = [store_key(key).decode() for key in keys]
        assert file["keys"].asstr()[:].tolist() == sorted(stored, key=str.encode)
        order = sorted(range(count), key=lambda n: stored[n].encode())
        records = [record_of(keys[n], EVERY) for n in order]
        for field in EVERY.fields:
            dataset, dtype = file[field.name], field.dtype
            assert dict(dataset.attrs) == {"dtype": dtype, "per": field.per}
            assert dataset.shape == (count, *field.shape_for(4))
            if dtype == "int8":
                scale = file[f"{field.name}_scale"]
                assert dict(scale.attrs) == {"dtype": "float32", "per": "region"}
                values = scale[..., :1] * (dataset[:].astype("f4") - scale[..., 1:])
                right = np.stack([read[n].array(field.name) for n in order])
            else:
                values, right = dataset[:], np.stack([as_stored(r.array(field.name), dtype) for r in records])
                assert dataset.dtype == right.dtype
                assert all((dataset[n] == right[n]).all() for n in {0, count // 2, count - 1})
            assert np.array_equal(values, right), field.name
        assert file["size"][:].tolist() == [list(record.size) for record in records]
        assert file["count"][:].tolist() == [4] * count
        assert file["ordinal"][:].tolist() == order


def test_a_stranger_is_told_how_to_read_the_file_and_can_walk_through_it(tmp_path: Path) -> None:
    sealed = write(tmp_path / "s", names(5), EVERY)
    with h5py.File(sealed) as file:
        assert json.loads(file.attrs["schema"]) == EVERY.to_dict()
        assert (file.attrs["format"], file.attrs["version"]) == ("featx", 2)
        assert "features[i]" in file.attrs["readme"]
        assert "start" not in file.attrs["readme"]
        seen: dict[str, Any] = {}
        file.visititems(lambda name, item: seen.__setitem__(name, item.shape))
        columns = {"keys", "offset", "count", "size", "ordinal", "checksum"}
        assert set(seen) == columns | {slot.name for slot in layout(EVERY, 4)[0]} == set(file)
        assert "f int8_scale" in seen


@pytest.mark.parametrize("count", [1023, 1024, 1025, 5000])
def test_thousands_of_records_are_found_by_h5py_and_by_us(tmp_path: Path, count: int) -> None:
    keys = mixed(count)
    sealed = write(tmp_path / "s", keys, TINY)
    right = {store_key(key): record_of(key, TINY) for key in keys}
    with h5py.File(sealed) as file:
        features, boxes = file["features"][:], file["boxes"][:]
        for row, key in enumerate(file["keys"][:].tolist()):
            assert features[row] == right[key].features
            assert (boxes[row] == right[key].boxes).all()
    with open_store(tmp_path / "s") as store:
        assert all(store[key] == right[store_key(key)] for key in keys)
        assert "nobody" not in store
    assert verify(tmp_path / "s").problems == []


def test_a_record_lies_in_the_file_as_it_was_written_and_the_columns_say_where(tmp_path: Path) -> None:
    sealed = write(tmp_path / "s", names(30), EVERY)
    data = sealed.read_bytes()
    with open_store(tmp_path / "s") as store, h5py.File(sealed) as file:
        for key, offset, checksum in zip(file["keys"].asstr(), file["offset"], file["checksum"], strict=True):
            stored = store.stored_bytes(key)
            assert data[int(offset) : int(offset) + len(stored)] == stored
            assert struct.unpack_from("<Q", stored, 40) == (checksum,)


def test_sealing_writes_no_record_again(tmp_path: Path) -> None:
    written: list[tuple[str, int, int]] = []

    class Watching(disk.Disk):
        def write(self, path: Path, pieces: Any, at: int) -> None:
            written.append((path.name, at, sum(memoryview(piece).nbytes for piece in pieces)))
            super().write(path, pieces, at)

    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    with disk.using(Watching()), open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(30)))
        writer.finish()
    (file,) = tmp_path.rglob("*.h5")
    assert sum(length for name, _, length in written if name == "records.log") == file.stat().st_size
    assert {name for name, *_ in written} == {
        "records.log",
        "ledger.jsonl",
        ".manifest.json.tmp",
        ".part.json.tmp",
    }


def test_the_file_is_at_most_two_percent_larger_than_its_payload(tmp_path: Path) -> None:
    schema = region_schema(2048, "float16", rows=36)
    store = open_store(make_store(tmp_path / "s", "hdf5", 100, schema=schema))
    payload = len(store) * sum(slot.size for slot in layout(schema, 36)[0])
    (file,) = tmp_path.rglob("*.h5")
    assert payload < file.stat().st_size < 1.02 * payload


def test_frame_and_hash_are_those_of_the_specification(tmp_path: Path) -> None:
    sealed = write(tmp_path / "s", names(9), FIXED)
    data, state = sealed.read_bytes(), xxhash.xxh3_128()
    with h5py.File(sealed) as file:
        for name in ("keys", "offset", "count", "size", "ordinal", "checksum"):
            state.update(file[name][()].tobytes())
    part = json.loads((sealed.parent / "part.json").read_text())
    assert part["frames"] == {sealed.name: state.hexdigest()}
    assert part["hashes"][sealed.name] == "tail:" + xxhash.xxh3_128_hexdigest(data[4096:] + data[:4096])


def test_a_resumed_part_has_the_bytes_and_the_hash_of_one_written_at_once(tmp_path: Path) -> None:
    for name, cuts in (("once", [30]), ("resumed", [9, 21, 30])):
        create_store(tmp_path / name, "hdf5", FIXED, PROVENANCE)
        for end in cuts:
            with open_part(tmp_path / name) as writer:
                write_missing(writer, enumerate(names(end)))
        with open_part(tmp_path / name) as writer:
            writer.finish()
        (file,) = (tmp_path / name).rglob("*.h5")
    assert file.read_bytes() == next((tmp_path / "once").rglob("*.h5")).read_bytes()
    parts = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("part.json"))]
    assert parts[0] == parts[1]
    assert verify(tmp_path / "resumed").ok


def test_a_large_part_becomes_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 30_000)
    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(30)))
        assert len(list(tmp_path.rglob("*.h5"))) >= 2
        with open_store(tmp_path / "s", partial=True) as store:
            assert len(store) == 26
        writer.finish()
    assert not list(tmp_path.rglob("records.log"))
    files = sorted(tmp_path.rglob("*.h5"))
    assert len(files) > 2
    assert sum(len(h5py.File(file)["keys"]) for file in files) == 26
    with open_store(tmp_path / "s") as store:
        assert all(store[key] == record_of(key, FIXED) for key in store)
        batch = store.get_batch(list(store))
        assert (batch.features[11].numpy() == record_of(batch.keys[11], FIXED).features).all()
    assert verify(tmp_path / "s").ok


@pytest.mark.parametrize("only", ["write", "sync"])
def test_a_seal_that_fails_leaves_a_log_that_can_be_sealed_later(
    tmp_path: Path, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 1)
    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a", FIXED), 0)
        writer.commit()
        size = next(tmp_path.rglob("records.log")).stat().st_size
        writer.put("b", record_of("b", FIXED), 1)
        with disk.using(Failing(1, only=only)), pytest.raises(FeatxError, match="Input/output error"):
            writer.commit()
        assert next(tmp_path.rglob("records.log")).stat().st_size == size
        with open_store(tmp_path / "s", partial=True) as store:
            assert list(store) == ["a"]
        writer.finish()
    assert list(open_store(tmp_path / "s")) == ["a", "b"]
    assert verify(tmp_path / "s").ok


def test_a_file_of_arrays_of_fixed_rows_is_read_as_before(tmp_path: Path) -> None:
    """What version 1 of the file was, also where records have fixed rows."""
    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, enumerate(names(20)))
    (log,) = tmp_path.rglob("records.log")
    file = log.with_name("records-00000.h5")
    write_arrays(file, log, FIXED)
    with open_part(tmp_path / "s") as writer:  # the log is found to be sealed
        writer.finish()
    assert isinstance(open_file(file, FIXED), ArraysShard)
    assert h5py.File(file)["features"].shape == (18 * 14, 96)
    with open_store(tmp_path / "s") as store:
        assert all(store[key] == record_of(key, FIXED) for key in store)
        batch = store.get_batch(list(store))
        assert (batch.features[11].numpy() == record_of(batch.keys[11], FIXED).features).all()
    assert verify(tmp_path / "s").ok


def test_a_field_may_have_the_name_of_the_new_column_and_keeps_its_arrays(tmp_path: Path) -> None:
    """Stores of such a schema were begun before there was that column, and go on."""
    schema = Schema((*FIXED.fields, Field("offset", "int32")), rows=14)
    for key in ("a", "b"):
        create_store(tmp_path / "s", "hdf5", schema, PROVENANCE)
        with open_part(tmp_path / "s") as writer:
            writer.put(key, record_of(key, schema), ord(key))
            writer.commit()
    with open_part(tmp_path / "s") as writer:
        writer.finish()
    (file,) = tmp_path.rglob("*.h5")
    assert isinstance(open_file(file, schema), ArraysShard)
    assert open_store(tmp_path / "s")["a"] == record_of("a", schema)
    assert verify(tmp_path / "s").ok


@pytest.mark.parametrize("name", ["a/b", ".", "", "x\0y", "x" * 256, "\udc80", "checksum"])
def test_a_field_has_a_name_that_hdf5_can_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a field cannot be called"):
        create_store(tmp_path / "s", "hdf5", Schema((*FIXED.fields, Field(name, "int32")), rows=14), PROVENANCE)
    assert not (tmp_path / "s").exists()


def test_a_field_has_no_more_axes_than_hdf5_can_hold(tmp_path: Path) -> None:
    schema = Schema((*FIXED.fields, Field("x", "uint8", (1,) * 30)), rows=14)
    create_store(tmp_path / "s", "hdf5", schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a", schema, 14), 0)
        writer.finish()
    (file,) = tmp_path.rglob("*.h5")
    assert h5py.File(file)["x"].ndim == 32
    with pytest.raises(UsageError, match="axes"):
        create_store(tmp_path / "t", "hdf5", Schema((*FIXED.fields, Field("x", "uint8", (1,) * 31))), PROVENANCE)


def test_a_store_whose_field_was_called_like_a_path_keeps_its_arrays(tmp_path: Path) -> None:
    assert not stays_in_place(Schema((*FIXED.fields, Field("a/b", "int32")), rows=14))
    assert stays_in_place(FIXED)


def test_a_file_never_takes_the_name_of_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when somebody has taken away one before it."""
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 1)
    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        for ordinal, key in enumerate("abc"):
            writer.put(key, record_of(key, FIXED), ordinal)
            writer.commit()
    files = sorted(tmp_path.rglob("*.h5"))
    assert [file.name for file in files] == ["records-00000.h5", "records-00001.h5"]
    files[0].unlink()
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a", FIXED), 0)
        writer.finish()
    with open_store(tmp_path / "s") as store:
        assert {key: store[key] == record_of(key, FIXED) for key in store} == dict.fromkeys("abc", True)
    assert verify(tmp_path / "s").ok


def test_a_file_that_came_from_elsewhere_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "hdf5", FIXED, PROVENANCE)
    writer = open_part(tmp_path / "s")
    writer.put("a", record_of("a", FIXED), 0)
    writer.commit()
    other = next(tmp_path.rglob("records.log")).with_name("records-00000.h5")
    other.write_text("mine")
    with pytest.raises(StoreDamaged, match="another was to get its name"):
        writer.finish()
    writer.close()
    assert other.read_text() == "mine"


def test_an_hdf5_library_that_cannot_list_chunks_does_not_make_a_sound_store_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "s", ["a", "b"], FIXED)

    class Older:
        """A dataset whose id has no chunk_iter, as with HDF5 before 1.12.3."""

        id = object()

        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset

        def __getattr__(self, name: str) -> Any:
            return getattr(self.dataset, name)

        def __getitem__(self, place: Any) -> Any:
            return self.dataset[place]

    item = h5py.File.__getitem__
    monkeypatch.setattr(h5py.File, "__getitem__", lambda self, name: Older(item(self, name)))
    assert not list(problems(file, FIXED))


def test_a_column_that_claims_more_than_its_file_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "s", ["a", "b"], TINY)
    with h5py.File(file, "r+") as opened:
        del opened["count"]
        opened.create_dataset("count", (2**44,), "<u4", chunks=(2**20,))
    (said,) = problems(file, TINY)
    assert "which the file cannot hold" in said


def test_sealing_needs_little_more_memory_than_what_it_writes() -> None:
    count, fields = 200_000, 12
    schema = Schema((*TINY.fields, *(Field(f"f{n}", "int32") for n in range(fields))), rows=1)
    columns = {name: np.zeros((count, 2) if name == "size" else count, dtype) for name, dtype in COLUMNS.items()}
    columns["keys"] = np.zeros(count, "S8")
    tracemalloc.start()
    _, behind = appendix(columns, schema, 1 << 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * sum(map(len, behind))


def test_a_closed_file_of_arrays_is_not_mapped_any_more(tmp_path: Path) -> None:
    schema = Schema(FIXED.fields)
    create_store(tmp_path / "s", "hdf5", schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record_of("a", schema), 0)
        writer.finish()
    (file,) = tmp_path.rglob("*.h5")
    shard = open_file(file, schema)
    assert str(file) in Path("/proc/self/maps").read_text()
    shard.close()
    assert str(file) not in Path("/proc/self/maps").read_text()


def unhashed(file: Path) -> None:
    """Let part.json say the hashes that the file has now, as if it had been written so."""
    path, shard = file.parent / "part.json", open_file(file, FIXED)
    part, data = json.loads(path.read_text()), file.read_bytes()
    del part["checksum"]
    part["frames"][file.name] = shard.frame
    part["hashes"][file.name] = "tail:" + xxhash.xxh3_128_hexdigest(data[4096:] + data[:4096])
    canonical = json.dumps(part, sort_keys=True, separators=(",", ":")).encode()
    path.write_text(json.dumps({**part, "checksum": xxhash.xxh3_64_hexdigest(canonical)}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("offset", r"features\[5\] is 2688 bytes at"),
        ("count", r"count\[5\] is not what the header"),
        ("size", r"size\[5\] is not what the header"),
        ("ordinal", r"ordinal\[5\] is not what the header"),
    ],
)
def test_verify_finds_where_hdf5_the_columns_and_the_records_do_not_agree(tmp_path: Path, name: str, said: str) -> None:
    file = write(tmp_path / "s", names(12), FIXED)
    assert verify(tmp_path / "s").ok
    with h5py.File(file, "r+") as handle:
        handle[name][5] = handle[name][6] + (name != "offset")
    unhashed(file)
    assert any(problem.path == file and re.search(said, problem.message) for problem in verify(tmp_path / "s").problems)


def test_places_that_lead_anywhere_are_refused_by_both_readers(tmp_path: Path) -> None:
    path = fill(tmp_path / "s", "hdf5", FIXED, 12)
    (file,) = path.rglob("*.h5")
    whole, keys = file.read_bytes(), sorted(names(12))
    with h5py.File(file) as handle:
        place = handle["offset"].id.get_offset() + 8 * 5
    (own, next_) = struct.unpack_from("<QQ", whole, place)
    for value in (0, 1, own + 1, own - 1, next_, len(whole), len(whole) - 1, len(whole) - 48, 2**63, 2**64 - 1):
        damaged = bytearray(whole)
        struct.pack_into("<Q", damaged, place, value)
        file.write_bytes(damaged)
        with open_store(path) as store:
            with pytest.raises(StoreDamaged, match=keys[5]):
                store[keys[5]]
            with pytest.raises(StoreDamaged, match=keys[5]):
                store.get_batch(keys[3:8])
            assert store[keys[4]] == record_of(keys[4], FIXED)
            assert (store.get_batch(keys[:5]).features[2].numpy() == record_of(keys[2], FIXED).features).all()
        assert not verify(path).ok
    shutil.rmtree(path)


def test_a_file_is_of_the_kind_that_its_columns_say(tmp_path: Path) -> None:
    assert isinstance(open_file(write(tmp_path / "fixed", ["a"], FIXED), FIXED), PlacedShard)
    schema = Schema(FIXED.fields)
    assert isinstance(open_file(write(tmp_path / "free", ["a"], schema), schema), ArraysShard)


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("fields", [TINY.fields, FIXED.fields], ids=["none", "one"])
def test_records_without_rows_are_sealed_in_place_too(tmp_path: Path, fields: tuple[Field, ...], count: int) -> None:
    schema = Schema(fields, rows=0)
    sealed = write(tmp_path / "s", names(count), schema)
    assert isinstance(open_file(sealed, schema), PlacedShard)
    with open_store(tmp_path / "s") as store:
        assert all(store[key] == record_of(key, schema, 0) for key in names(count))
    with h5py.File(sealed) as file:
        assert file["boxes"][:].shape == (count, 0, 4)
    assert verify(tmp_path / "s").ok
