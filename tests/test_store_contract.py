"""What every store must do, whatever lies beneath: the same tests for each backend."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from featx.codec import decode, encode, store_key
from featx.errors import KeyNotFound, RecordError, StoreError, UsageError
from featx.record import Record
from featx.schema import Field, Schema, region_schema
from featx.store import create_store, hdf5_store, open_part, open_store, verify
from featx.store import writer as writing
from tests.store_oracle import PROVENANCE, REFUSED, SCHEMA, make_store, names, record_of, write_missing

COUNT = 20
REFUSED_NAMES = names(COUNT)[REFUSED - 1 :: REFUSED]
STORED_NAMES = [name for name in names(COUNT) if name not in REFUSED_NAMES]


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("parts", [1, 3])
def test_a_store_gives_back_exactly_what_was_put(path: Path, backend: str, parts: int) -> None:
    with open_store(make_store(path, backend, COUNT, parts)) as store:
        assert len(store) == len(STORED_NAMES)
        for name in STORED_NAMES:
            assert store[name] == record_of(name)


@pytest.mark.parametrize("parts", [1, 3])
def test_keys_come_sorted_or_in_the_order_of_the_source_list(path: Path, backend: str, parts: int) -> None:
    store = open_store(make_store(path, backend, COUNT, parts))
    assert list(store.keys()) == sorted(STORED_NAMES) == list(store)
    assert list(store.keys(order="source")) == STORED_NAMES
    with pytest.raises(UsageError, match="'random'"):
        store.keys(order="random")  # type: ignore[arg-type]


def test_membership_is_that_of_the_records(path: Path, backend: str) -> None:
    store = open_store(make_store(path, backend, COUNT))
    assert all(name in store for name in STORED_NAMES)
    assert not any(name in store for name in (*REFUSED_NAMES, "nobody", "", "new\nline", "x" * 1000))
    assert 7 not in store


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_every_dtype_reads_back_to_the_bit(path: Path, backend: str, dtype: str) -> None:
    schema = region_schema(64, dtype, rows=10, other="regressed_boxes")
    store = open_store(make_store(path, backend, 4, schema=schema))
    for name in names(4):
        assert store[name] == record_of(name, schema)
        assert store[name].features.dtype == ("float16" if dtype == "float16" else "float32")


def test_a_read_record_cannot_be_changed(path: Path, backend: str) -> None:
    record = open_store(make_store(path, backend, 2))[names(1)[0]]
    with pytest.raises(ValueError, match="read-only"):
        record.features[0, 0] = 1


def test_stored_bytes_are_the_same_in_every_backend(tmp_path: Path) -> None:
    stores = [open_store(make_store(tmp_path / name, name, COUNT)) for name in ("lmdb", "hdf5")]
    for ordinal, name in enumerate(names(COUNT)):
        if name in STORED_NAMES:
            expected = encode(record_of(name), SCHEMA, store_key(name), ordinal)
            assert [store.stored_bytes(name) for store in stores] == [expected, expected]


def test_the_digest_depends_on_the_content_alone(tmp_path: Path) -> None:
    digests = set()
    for place, (name, parts) in enumerate([("lmdb", 1), ("hdf5", 1), ("lmdb", 3), ("hdf5", 4)]):
        totals = open_store(make_store(tmp_path / str(place), name, COUNT, parts)).manifest.totals
        assert totals is not None
        assert (totals.records, totals.refused, totals.reasons) == (18, 2, {"empty": 2})
        digests.add(totals.digest)
    assert len(digests) == 1
    other = open_store(make_store(tmp_path / "other", "lmdb", COUNT - 1)).manifest.totals
    assert other is not None
    assert other.digest not in digests


def test_a_missing_key_says_what_is_near(path: Path, backend: str) -> None:
    store = open_store(make_store(path, backend, 5))
    with pytest.raises(KeyNotFound, match="not among the 5 records") as caught:
        store["picture 3.jpg"]
    assert names(5)[3] in caught.value.hint
    assert "featx inspect STORE --keys" in caught.value.hint


def test_a_refused_key_says_why(path: Path, backend: str) -> None:
    store = open_store(make_store(path, backend, COUNT))
    with pytest.raises(KeyNotFound, match=r"refused \(empty: the file has no bytes"):
        store[REFUSED_NAMES[0]]


def test_refusals_can_be_read_back(path: Path, backend: str) -> None:
    refusals = list(open_store(make_store(path, backend, COUNT, parts=2)).failures())
    assert sorted(refusal.key for refusal in refusals) == sorted(REFUSED_NAMES)
    assert {refusal.reason for refusal in refusals} == {"empty"}
    assert refusals[0].source == f"/photos/{refusals[0].key}"
    assert names(COUNT)[refusals[0].ordinal] == refusals[0].key


def test_long_names_are_found_and_listed_in_full(path: Path, backend: str) -> None:
    long = ["deep/" * 120 + "é.jpg", "deep/" * 120 + "f.jpg"]
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put(long[0], record_of(long[0]), 1)
    with open_part(path) as writer:  # what came before a restart keeps its name too
        assert long[0] in writer.done
        assert list(open_store(path, partial=True)) == [long[0]]
        writer.put(long[1], record_of(long[1]), 0)
        part = writer.finish()
    assert sorted(part.aliases.values()) == sorted(long)
    store = open_store(path)
    assert sorted(store) == sorted(long)
    assert list(store.keys("source")) == long[::-1]
    assert store[long[0]] == record_of(long[0])


def test_equivalent_unicode_names_are_one_picture(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put("cafe\u0301.jpg", record_of("x"), 0)
        with pytest.raises(UsageError, match="already"):
            writer.put("caf\u00e9.jpg", record_of("x"), 1)
        writer.finish()
    assert open_store(path)["caf\u00e9.jpg"] == record_of("x")


def test_records_of_no_regions_and_empty_parts_are_fine(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE, parts=2)
    for part in range(2):
        with open_part(path, part) as writer:
            if part:
                writer.put("blank", record_of("blank", rows=0), 0)
            writer.finish()
    store = open_store(path)
    assert len(store) == 1
    assert store["blank"] == record_of("blank", rows=0)
    assert verify(path).ok


def test_only_what_was_committed_is_visible_and_only_on_request(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE, parts=4)
    with open_part(path, 2) as writer:
        writer.put("a", record_of("a"), 0)
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
        assert len(open_store(path, partial=True)) == 0
        writer.commit()
        with pytest.raises(StoreError, match="0 of 4 parts are done") as caught:
            open_store(path)
        assert "resume" in caught.value.hint
        assert "partial=True" in caught.value.hint
        store = open_store(path, partial=True)
        assert list(store) == ["a"]
        assert [refusal.key for refusal in store.failures()] == ["b"]
        writer.put("c", record_of("c"), 2)
        writer.commit()
        assert list(open_store(path, partial=True)) == ["a", "c"]


def test_done_is_what_was_committed_or_refused(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put("a", record_of("a"), 0)
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
        assert [key in writer.done for key in "abc"] == [False, False, False]
        writer.commit()
        assert [key in writer.done for key in "abc"] == [True, True, False]
        writer.finish()
    with open_part(path) as writer:
        assert writer.finished is not None
        assert [key in writer.done for key in "abc"] == [True, True, False]


def test_leaving_with_an_error_keeps_what_was_committed_and_nothing_else(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    with suppress(ZeroDivisionError), open_part(path) as writer:
        writer.put("a", record_of("a"), 0)
        writer.commit()
        writer.put("b", record_of("b"), 1)
        raise ZeroDivisionError
    assert list(open_store(path, partial=True)) == ["a"]


def test_a_group_commits_itself_when_it_is_large(path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 10_000)
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put("a", record_of("a"), 0)  # about 4 KB
        assert "a" not in writer.done
        for ordinal, name in enumerate(names(4), 1):
            writer.put(name, record_of(name), ordinal)
        assert "a" in writer.done


@pytest.mark.parametrize("again", ["put", "refuse"])
def test_one_key_cannot_be_two_pictures(path: Path, backend: str, again: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put("a", record_of("a"), 0)
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
        for _ in range(2):
            for key in "ab":
                arguments = (record_of(key), 2) if again == "put" else (2, "c.jpg", "empty", "no bytes")
                with pytest.raises(UsageError, match=f"has {key!r} already"):
                    getattr(writer, again)(key, *arguments)
            writer.commit()


def test_a_record_that_breaks_the_contract_never_reaches_the_disk(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    good = record_of("a")
    features = good.features.copy()
    features[0, 0] = np.nan
    bad = [
        Record(features, good.boxes, good.size, extra=good.extra),
        Record(good.features, good.boxes + 5000, good.size, extra=good.extra),
        Record(good.features.astype(np.float32), good.boxes, good.size, extra=good.extra),
        Record(good.features, good.boxes, good.size),
    ]
    with open_part(path) as writer:
        for record in bad:
            with pytest.raises(RecordError):
                writer.put("a", record, 0)
        writer.put("a", good, 0)
        assert writer.finish().totals.records == 1


def test_a_finished_part_takes_nothing_more(path: Path, backend: str) -> None:
    make_store(path, backend, 4)
    with open_part(path) as writer, pytest.raises(UsageError, match="finished or closed"):
        writer.put("new", record_of("new"), 9)


def test_finishing_again_changes_nothing(path: Path, backend: str) -> None:
    make_store(path, backend, COUNT)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}
    with open_part(path) as writer:
        assert write_missing(writer, enumerate(names(COUNT))) == []
        writer.finish()
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}


@pytest.mark.parametrize("finished", [True, False])
def test_refused_pictures_are_tried_again_on_request_only(path: Path, backend: str, finished: bool) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE, parts=2)
    for part in range(2):
        with open_part(path, part) as writer:
            writer.put(f"good{part}", record_of("good"), part)
            writer.refuse(f"bad{part}", 2 + part, "bad.jpg", "truncated", "it is cut")
            if finished:
                writer.finish()
    with open_part(path, 0) as writer:
        assert "bad0" in writer.done
        assert (writer.finished is not None) == finished
    with open_part(path, 0, retry_refused=True) as writer:
        assert "bad0" not in writer.done
        assert "good0" in writer.done
        with pytest.raises(StoreError, match="unfinished"):
            open_store(path)
        writer.put("bad0", record_of("bad0"), 2)
        writer.finish()
    with open_part(path, 1) as writer:
        writer.finish()
    store = open_store(path)
    assert sorted(store) == ["bad0", "good0", "good1"]
    assert [refusal.key for refusal in store.failures()] == ["bad1"]
    assert store.manifest.totals is not None
    assert store.manifest.totals.reasons == {"truncated": 1}
    assert verify(path).ok


def test_a_part_without_refusals_stays_finished_when_they_are_retried(path: Path, backend: str) -> None:
    make_store(path, backend, 3)
    with open_part(path, retry_refused=True) as writer:
        assert writer.finished is not None
    assert len(open_store(path)) == 3


def test_a_part_grows_from_group_to_group_and_loses_nothing(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        sizes = []
        for ordinal, name in enumerate(names(60)):
            writer.put(name, record_of(name), ordinal)
            writer.commit()
            sizes.append(next(path.rglob("records.log")).stat().st_size)
            assert open_store(path, partial=True)[names(60)[0]] == record_of(names(60)[0])
        assert sizes == sorted(set(sizes))
        writer.finish()
    store = open_store(path)
    assert len(store) == 60
    assert all(store[name] == record_of(name) for name in names(60))


def test_the_final_lmdb_file_is_at_most_two_percent_larger_than_its_payload(path: Path) -> None:
    schema = region_schema(2048, "float16", rows=36)
    make_store(path, "lmdb", 100, schema=schema)
    with open_store(path) as store:
        payload = sum(sum(store[name].array(field.name).nbytes for field in schema.fields) for name in store)
    (file,) = path.rglob("*.lmdb")
    assert payload < file.stat().st_size < 1.02 * payload


def test_hdf5_seals_a_segment_whenever_its_log_is_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 60_000)
    create_store(path, "hdf5", SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        write_missing(writer, list(enumerate(names(60)))[:40])
        segments = len(list(path.rglob("*.h5")))
        assert segments >= 2
        assert len(open_store(path, partial=True)) == 35  # segments and log together
    with open_part(path) as writer:
        assert write_missing(writer, enumerate(names(60))) == names(60)[40:]
        writer.finish()
    store = open_store(path)
    assert len(list(path.rglob("*.h5"))) > segments
    assert not list(path.rglob("records.log"))
    assert len(store) == 52
    assert all(store[name] == record_of(name) for name in store)
    assert store.manifest.totals == open_store(make_store(path.parent / "one", "lmdb", 60)).manifest.totals


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_anybody_with_h5py_can_read_a_sealed_file(path: Path, dtype: str) -> None:
    h5py = pytest.importorskip("h5py")
    schema = Schema((Field("features", dtype, (64,)), *SCHEMA.fields[1:]))
    make_store(path, "hdf5", 6, schema=schema)
    (sealed,) = path.rglob("*.h5")
    with h5py.File(sealed) as file:
        keys = [key.decode() for key in file["keys"]]
        assert keys == sorted(names(6))
        place = keys.index(names(6)[4])
        rows = slice(*file["start"][place : place + 2])
        expected = record_of(names(6)[4], schema)
        assert file["features"].attrs["dtype"] == dtype
        features = file["features"][rows]
        if dtype == "bfloat16":
            features = (features.astype("<u4") << 16).view("<f4")
        assert np.array_equal(features, expected.features)
        assert np.array_equal(file["boxes"][rows], expected.boxes)
        assert np.array_equal(file["pooled"][place], expected.pooled)
        assert file["size"][place].tolist() == list(expected.size)
        assert file["ordinal"][place] == 4
        assert file["count"][place] == len(expected)
        assert all(file[name].chunks is None for name in file)
        assert "start[i]:start[i+1]" in file.attrs["readme"]


def test_a_batch_is_padded_to_the_longest_and_masked(path: Path, backend: str) -> None:
    torch = pytest.importorskip("torch")
    create_store(path, backend, SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        for place, rows in enumerate((3, 7, 0)):
            writer.put(str(rows), record_of(str(rows), rows=rows), place)
        writer.finish()
    batch = open_store(path).get_batch(["7", "3", "0", "3"])
    assert batch.keys == ("7", "3", "0", "3")
    assert batch.features.shape == (4, 7, 96)
    assert batch.features.dtype == torch.float32
    assert batch.boxes.shape == (4, 7, 4)
    assert batch.mask.sum(1).tolist() == [7, 3, 0, 3]
    assert batch.sizes.tolist() == [list(map(float, record_of(key, rows=0).size)) for key in "7303"]
    for place, rows in enumerate((7, 3, 0, 3)):
        record = record_of(str(rows), rows=rows)
        assert np.array_equal(batch.features[place, :rows].numpy(), record.features.astype(np.float32))
        assert np.array_equal(batch.boxes[place, :rows].numpy(), record.boxes)
        assert np.array_equal(batch.extra["object_ids"][place, :rows].numpy(), record.object_ids)
        assert np.array_equal(batch.extra["pooled"][place].numpy(), record.pooled)
        assert not batch.mask[place, rows:].any()
        assert not batch.features[place, rows:].any()
        assert not batch.extra["object_ids"][place, rows:].any()


def test_a_batch_masks_the_padding_rows_of_a_fixed_schema(path: Path, backend: str) -> None:
    pytest.importorskip("torch")
    schema = Schema(SCHEMA.fields, rows=12)
    create_store(path, backend, schema, PROVENANCE)
    whole = record_of("a", schema)
    with open_part(path) as writer:
        writer.put("a", Record(whole.features, whole.boxes, whole.size, 5, whole.extra), 0)
        writer.finish()
    batch = open_store(path).get_batch(["a"])
    assert batch.mask[0].tolist() == [True] * 5 + [False] * 7
    assert open_store(path).get_batch([]).features.shape == (0, 12, 96)


def test_a_batch_names_the_key_it_cannot_find(path: Path, backend: str) -> None:
    pytest.importorskip("torch")
    store = open_store(make_store(path, backend, 3))
    with pytest.raises(KeyNotFound, match="'nobody'"):
        store.get_batch([names(1)[0], "nobody"])


def test_a_closed_store_opens_again_when_it_is_used(path: Path, backend: str) -> None:
    store = open_store(make_store(path, backend, 3))
    store.close()
    assert store[names(1)[0]] == record_of(names(1)[0])


def test_the_same_store_can_be_open_many_times_in_one_process(path: Path, backend: str) -> None:
    stores = [open_store(make_store(path, backend, 3)) for _ in range(3)]
    stores[0].close()
    assert stores[1][names(1)[0]] == stores[2][names(1)[0]]


def test_repr_says_what_a_store_holds(path: Path, backend: str) -> None:
    text = repr(open_store(make_store(path, backend, 3)))
    assert f"{backend}, 3 records: features float16['N', 96], boxes float32['N', 4]" in text


def test_manifest_and_labels_come_back(path: Path, backend: str) -> None:
    create_store(path, backend, SCHEMA, PROVENANCE, {"objects": ["cat", "кот"]})
    with open_part(path, about={"host": "here"}) as writer:
        assert writer.finish().about == {"host": "here"}
    store = open_store(path)
    assert store.labels == {"objects": ["cat", "кот"]}
    assert store.schema == SCHEMA
    assert store.manifest.provenance == PROVENANCE
    assert store.manifest.complete


def test_verification_passes_over_a_sound_store(path: Path, backend: str) -> None:
    make_store(path, backend, COUNT, parts=3)
    report = verify(path)
    assert report.ok
    assert report.totals == open_store(path).manifest.totals
    assert (report.finished, report.parts) == (3, 3)


def test_stored_bytes_decode_without_the_store(path: Path, backend: str) -> None:
    store = open_store(make_store(path, backend, 3))
    name = names(3)[1]
    assert decode(store.stored_bytes(name), store.schema, store_key(name)) == record_of(name)
