"""LMDB with pickles, of ViLBERT, volta and MMF: read as their converters write, written as their readers read."""

from __future__ import annotations

import base64
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featx.errors import FeatxError, UsageError
from featx.formats import get
from featx.formats.base import Item
from featx.formats.options import Options
from featx.formats.records import Records
from featx.record import Record
from featx.schema import Array, region_schema
from featx.store import StoreReader, create_store, open_part, open_store
from tests.foreign import import_tsv

TRUST = Options(allow_pickle=True)
NAMES = ["vilbert-lmdb", "vilbert-beta-lmdb", "volta-lmdb", "volta-npy-lmdb", "mmf-lmdb"]


class Picture:
    """A picture as an extractor has it, before any format."""

    def __init__(self, key: str, rows: int = 3, dim: int = 8) -> None:
        rng = np.random.default_rng(len(key) * 100 + rows)
        self.key, self.height, self.width = key, 90, 120
        corners = np.sort(rng.random((rows, 2, 2), np.float32) * 80, axis=1)
        self.boxes = np.ascontiguousarray(corners.reshape(rows, 4))
        self.features = rng.random((rows, dim), np.float32)
        self.ids, self.attrs = rng.integers(0, 1600, rows), rng.integers(0, 400, rows)
        self.confs, self.attr_confs = rng.random(rows, np.float32), rng.random(rows, np.float32)
        self.probs = rng.random((rows, 5), np.float32)


def coded(array: Array) -> bytes:
    return base64.b64encode(array.tobytes())


def vilbert_beta(p: Picture) -> dict[str, Any]:
    """convert_trainval_lmdb.py pickles the row that csv.DictReader gave it."""
    return {
        "image_id": p.key, "image_w": "120", "image_h": "90", "num_boxes": str(len(p.boxes)),
        "boxes": coded(p.boxes).decode(), "features": coded(p.features).decode(), "cls_prob": coded(p.probs).decode(),
    }  # fmt: skip


def vilbert(p: Picture) -> dict[str, Any]:
    return {
        "image_id": p.key, "image_h": 90, "image_w": 120, "num_boxes": len(p.boxes), "boxes": p.boxes,
        "features": p.features,
    }  # fmt: skip


def volta(p: Picture) -> dict[str, Any]:
    return {
        "features": p.features, "obj_id": p.ids, "obj_conf": p.confs, "attr_id": p.attrs, "attr_conf": p.attr_confs,
        "boxes": p.boxes, "img_w": np.int64(120), "img_h": np.int64(90), "img_id": p.key,
    }  # fmt: skip


def volta_npy(p: Picture) -> dict[str, Any]:
    return {
        "feature_path": p.key, "features": coded(p.features), "img_h": 90, "img_w": 120, "num_boxes": len(p.boxes),
        "objects": p.ids, "cls_prob": p.probs, "boxes": coded(p.boxes),
    }  # fmt: skip


def mmf(p: Picture) -> dict[str, Any]:
    return {
        "feature_path": p.key, "features": p.features, "image_height": 90, "image_width": 120, "num_boxes": 100,
        "objects": p.ids, "cls_prob": p.confs, "bbox": p.boxes,
    }  # fmt: skip


WRITERS: dict[str, Callable[[Picture], dict[str, Any]]] = {
    "vilbert-lmdb": vilbert, "vilbert-beta-lmdb": vilbert_beta, "volta-lmdb": volta, "volta-npy-lmdb": volta_npy,
    "mmf-lmdb": mmf,
}  # fmt: skip
KEYS = ["300", "17", "COCO_val2014_000000000042", "a/b"]


def made(path: Path, values: dict[str, Any], index: list[bytes] | None = None, **options: Any) -> Path:
    """An environment as the peers make one: one transaction, and the list of keys at the end."""
    env = lmdb.open(str(path), map_size=1 << 24, **options)
    with env.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key.encode(), value if isinstance(value, bytes) else pickle.dumps(value))
        txn.put(b"keys", pickle.dumps([key.encode() for key in values] if index is None else index))
    env.close()
    return path


def read(name: str, path: Path, options: Options = TRUST, start: int = 0) -> list[Item]:
    return list(get(name).read(path, options, start))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_peer_writes_is_read_in_the_order_in_which_it_wrote(tmp_path: Path, name: str) -> None:
    pictures = [Picture(key, rows) for key, rows in zip(KEYS, (3, 1, 5, 2), strict=True)]
    path = made(tmp_path / "db", {p.key: WRITERS[name](p) for p in pictures}, writemap=name.startswith("volta"))
    assert get(name).detect(path)
    assert [other for other in NAMES if get(other).detect(path)] == [name]
    items = read(name, path)
    assert [(item.number, item.key, item.problem) for item in items] == [(n, key, "") for n, key in enumerate(KEYS)]
    for item, picture in zip(items, pictures, strict=True):
        record = item.record
        assert record is not None
        assert record.size == (90, 120)
        assert record.features.dtype == record.boxes.dtype == np.float32
        assert np.array_equal(record.features, picture.features)
        assert np.array_equal(record.boxes, picture.boxes)
        expected = {"object_ids": picture.ids, "object_confs": picture.confs, "attribute_ids": picture.attrs,
                    "attribute_confs": picture.attr_confs, "class_probs": picture.probs}  # fmt: skip
        for field, array in record.extra.items():
            assert np.array_equal(array, expected[field]), field
    fields = {"vilbert-lmdb": [], "vilbert-beta-lmdb": ["class_probs"], "volta-npy-lmdb": ["object_ids", "class_probs"],
              "mmf-lmdb": ["object_ids", "object_confs"]}  # fmt: skip
    assert items[0].record is not None
    assert list(items[0].record.extra) == fields.get(
        name, ["object_ids", "object_confs", "attribute_ids", "attribute_confs"]
    )
    assert read(name, path, start=2) == items[2:]
    survey = get(name).survey(path, TRUST)
    assert survey.total == 4
    assert survey == get(name).survey(path, TRUST)


def test_the_same_keys_with_other_features_are_another_source(tmp_path: Path) -> None:
    one = made(tmp_path / "a", {"x": vilbert(Picture("x", dim=2000))})
    other = made(tmp_path / "b", {"x": vilbert(Picture("x", dim=2000)) | {"features": np.ones((3, 2000), np.float32)}})
    facts = [get("vilbert-lmdb").survey(path, TRUST).facts for path in (one, other)]
    assert facts[0]["bytes"] == facts[1]["bytes"]
    assert facts[0] != facts[1]


@pytest.mark.parametrize("name", NAMES)
def test_pickles_are_read_on_request_only(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "db", {"1": WRITERS[name](Picture("1"))})
    for call in (lambda: read(name, path, Options()), lambda: get(name).survey(path, Options())):
        with pytest.raises(UsageError, match=r"--allow-pickle|pickle"):
            call()


def test_a_pickle_that_would_run_code_is_a_problem_and_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = made(tmp_path / "db", {"1": pickle.dumps(Evil()), "2": vilbert(Picture("2"))})
    evil, good = read("vilbert-lmdb", path)
    assert "mkdir" in evil.problem
    assert good.record is not None
    assert not (tmp_path / "ran").exists()


def without(p: Picture, name: str) -> dict[str, Any]:
    return {field: value for field, value in volta(p).items() if field != name}


BAD: dict[str, tuple[Callable[[Picture], Any], str]] = {
    "no boxes": (lambda p: without(p, "boxes"), "no boxes"),
    "no features": (lambda p: without(p, "features"), "no features"),
    "another picture": (lambda p: volta(p) | {"img_id": "other"}, "'other'"),
    "too few features": (lambda p: volta(p) | {"features": p.features[:2]}, "features of 2"),
    "boxes of five numbers": (lambda p: volta(p) | {"boxes": np.zeros((3, 5), np.float32)}, "expected floats"),
    "broken base64": (lambda p: volta_npy(p) | {"features": b"????"}, "base64"),
    "cut base64": (lambda p: volta_npy(p) | {"features": coded(p.features)[:-8]}, "base64 of float32"),
    "numbers that make no rows": (lambda p: volta_npy(p) | {"features": coded(p.features[0])}, "8 numbers"),
    "no size": (lambda p: without(p, "img_h"), "whole number"),
    "a size that is none": (lambda p: volta(p) | {"img_w": 3.5}, "3.5"),
    "height and width swapped": (
        lambda p: volta(p) | {"img_h": 120, "img_w": 90, "boxes": np.tile(np.float32([0, 0, 110, 60]), (3, 1))},
        "swapped",
    ),
    "an id with a fraction": (lambda p: volta(p) | {"obj_id": p.confs + 0.25}, "int32"),
    "confidences of other regions": (lambda p: volta(p) | {"obj_conf": p.confs[:1]}, "expected 3 numbers"),
    "not a mapping": (lambda p: [1, 2], "expected a mapping"),
    "no pickle": (lambda p: b"hello", "pickle"),
    "a cut pickle": (lambda p: pickle.dumps(volta(p))[:-20], "pickle"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_told_with_its_key_and_the_rest_is_read(tmp_path: Path, case: str) -> None:
    spoil, said = BAD[case]
    path = made(tmp_path / "db", {"0": volta(Picture("0")), "1": spoil(Picture("1")), "2": volta(Picture("2"))})
    items = read("volta-lmdb", path)
    assert [item.key for item in items] == ["0", "1", "2"]
    assert [item.record is None for item in items] == [False, True, False]
    assert said in items[1].problem
    assert items[1].place.startswith("key '1', byte ")


def test_numbers_beyond_float32_are_read_without_a_word_and_are_for_the_store_to_refuse(tmp_path: Path) -> None:
    p = Picture("1")
    most = {name: np.full(volta(p)[name].shape, 1e308) for name in ("features", "boxes", "obj_conf")}
    [item] = read("volta-lmdb", made(tmp_path / "db", {"1": volta(p) | most}))
    assert item.record is not None
    for name in ("features", "boxes", "object_confs"):
        assert np.isposinf(item.record.array(name)).all()


def test_what_extractors_are_known_to_get_wrong_is_put_right(tmp_path: Path) -> None:
    p = Picture("1", 4)
    more = np.concatenate([p.features, np.ones((6, 8), np.float32)])
    values = {
        "1": mmf(p) | {"features": more},  # features of dropped regions are still there
        "2": mmf(Picture("2", 4)) | {"objects": np.array([7, 0, 3])},  # rows were sliced instead of columns
    }
    first, second = read("mmf-lmdb", made(tmp_path / "db", values), Options(allow_pickle=True, background="first"))
    assert first.record is not None
    assert np.array_equal(first.record.features, p.features)
    assert np.array_equal(first.record.object_ids, p.ids - 1)
    assert second.record is not None
    assert second.record.object_ids.tolist() == [-1, 6, -1, 2]


def test_told_sizes_and_names_count_more_than_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text('{"COCO_val2014_000000000017": [100, 200]}')
    path = made(tmp_path / "db", {"17": mmf(Picture("17"))})
    options = Options(allow_pickle=True, sizes=str(tmp_path / "sizes.json"), key="COCO_val2014_{:012d}")
    (item,) = read("mmf-lmdb", path, options)
    assert item.record is not None
    assert (item.key, item.record.size) == ("COCO_val2014_000000000017", (100, 200))


def test_listed_keys_without_an_entry_and_entries_that_are_not_listed_are_told_and_read(tmp_path: Path) -> None:
    values = {key: vilbert(Picture(key)) for key in ("b", "a", "c")}
    items = read("vilbert-lmdb", made(tmp_path / "db", values, [b"b", b"gone", b"a"]))
    assert [(item.key, bool(item.record)) for item in items] == [
        ("b", True), ("gone", False), ("a", True), ("c", True),
    ]  # fmt: skip
    assert "no entry" in items[1].problem


def test_without_a_readable_list_the_order_is_that_of_the_keys(tmp_path: Path) -> None:
    values = {key: vilbert(Picture(key)) for key in ("b", "a")}
    path = made(tmp_path / "db", {**values, "keys": b"spoilt"}, index=[b"b"])
    env = lmdb.open(str(path), map_size=1 << 24)
    with env.begin(write=True) as txn:
        txn.put(b"keys", b"spoilt")
    env.close()
    assert [item.key for item in read("vilbert-lmdb", path)] == ["a", "b"]


def test_a_list_of_numbers_for_keys_is_no_list(tmp_path: Path) -> None:
    """bytes() of a number would be as many zeros."""
    values = {key: vilbert(Picture(key)) for key in ("b", "a")}
    index: Any = [1 << 50, 2]
    assert [item.key for item in read("vilbert-lmdb", made(tmp_path / "db", values, index))] == ["a", "b"]


def test_a_file_that_was_cut_keeps_its_whole_records_and_never_gives_another_pictures(tmp_path: Path) -> None:
    pictures = {str(n): Picture(str(n), 4, 500) for n in range(60)}
    path = made(tmp_path / "db", {key: vilbert(p) for key, p in pictures.items()}) / "data.mdb"
    whole = path.read_bytes()
    for share in (0.4, 0.75, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        items = read("vilbert-lmdb", path)
        good = [item for item in items if item.record]
        assert len(good) > 60 * (share - 0.25)
        assert any(item.problem for item in items)
        assert len({item.key for item in good}) == len(good)
        for item in good:
            assert item.record is not None
            assert np.array_equal(item.record.features, pictures[item.key].features)
        assert get("vilbert-lmdb").survey(path, TRUST).total == len(items)


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    folder = tmp_path_factory.mktemp("golden")
    import_tsv(shared / "golden" / "train2014_obj36.tsv", folder / "store")
    return open_store(folder / "store")


def peer_reads(name: str, path: Path) -> dict[str, dict[str, Any]]:
    """As the peers' readers do: vilbert/datasets/_image_features_reader.py, volta's, and mmf's feature_readers.py."""
    found = {}
    env = lmdb.open(str(path), max_readers=1, readonly=True, lock=False, readahead=False, meminit=False)
    with env.begin(write=False) as txn:
        for image_id in pickle.loads(txn.get(b"keys")):
            item = pickle.loads(txn.get(image_id))
            if name.startswith("vilbert"):
                h, w, n = int(item["image_h"]), int(item["image_w"]), int(item["num_boxes"])
                features, boxes = item["features"], item["boxes"]
            elif name == "mmf-lmdb":
                h, w, n, features = item["image_height"], item["image_width"], item["num_boxes"], item["features"]
                boxes = item["bbox"]
            else:
                h, w, features, boxes = int(item["img_h"]), int(item["img_w"]), item["features"], item["boxes"]
                n = item.get("num_boxes", 36)
            if name in ("vilbert-beta-lmdb", "volta-npy-lmdb"):
                features = np.frombuffer(base64.b64decode(features), np.float32).reshape(n, 2048)
                boxes = np.frombuffer(base64.b64decode(boxes), np.float32).reshape(n, 4)
            assert features.shape == (n, 2048)
            found[image_id.decode()] = {"features": features, "boxes": boxes, "size": (h, w), **item} | {
                "features": features, "boxes": boxes,
            }  # fmt: skip
    env.close()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_published_features_go_through_and_the_peers_reader_finds_them(
    golden: StoreReader, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "out.lmdb"
    assert get(name).write(Records(golden), path, Options()) == 10
    assert [entry.name for entry in path.iterdir()] == ["data.mdb"]
    assert (path / "data.mdb").stat().st_size < 1.6 * 10 * 36 * 2052 * 4  # no map of 1 TiB
    assert get(name).detect(path)
    peer = peer_reads(name, path)
    assert list(peer) == list(golden.keys("source"))
    items = {item.key: item.record for item in read(name, path)}
    assert list(items) == list(golden.keys("source"))
    for key, found in peer.items():
        record, back = golden[key], items[key]
        assert back is not None
        assert found["size"] == back.size == record.size
        for array, same in ((found["features"], record.features), (found["boxes"], record.boxes)):
            assert array.dtype == np.float32
            assert np.array_equal(array, same)
        assert np.array_equal(back.features, record.features)
        assert np.array_equal(back.boxes, record.boxes)
        for field, array in back.extra.items():
            assert np.array_equal(array, record.array(field)), field
    if name == "volta-lmdb":
        assert next(iter(items.values())) == golden[next(golden.keys("source"))]
        assert found["obj_id"].dtype == np.int64


def test_an_export_grows_its_map_and_leaves_nothing_when_it_fails(
    golden: StoreReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.formats.lmdb.write._FIRST_MAP", 1 << 16)
    monkeypatch.setattr("featx.formats.lmdb.write._GROUP", 1 << 19)
    form, path = get("vilbert-lmdb"), tmp_path / "out"
    form.write(Records(golden), path, Options())
    before = (path / "data.mdb").read_bytes()
    assert len(read(form.name, path)) == 10
    with monkeypatch.context() as patch:
        patch.setattr(type(golden), "find", lambda self, key: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            form.write(Records(golden), path, Options())
    assert (path / "data.mdb").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    form.write(Records(golden), path, Options())  # over the old one
    assert len(read(form.name, path)) == 10


def test_a_folder_of_something_else_is_not_written_over(golden: StoreReader, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="no LMDB folder"):
        get("mmf-lmdb").write(Records(golden), tmp_path / "photos", Options())


def test_a_store_without_classes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    p = Picture("a")
    store = tmp_path / "s"
    (item,) = read("vilbert-lmdb", made(tmp_path / "db", {"a": vilbert(p)}))
    form = get("vilbert-lmdb")
    create_store(store, "lmdb", form.schema(tmp_path / "db", TRUST), {})
    with open_part(store) as writer:
        assert item.record is not None
        writer.put("a", item.record, 0)
        writer.finish()
    for name in ("volta-lmdb", "volta-npy-lmdb", "mmf-lmdb"):
        with pytest.raises(UsageError, match="object_ids"):
            get(name).write(Records(open_store(store)), tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_that_is_called_as_the_list_of_keys_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    confs, ids, box = np.ones(1, np.float32), np.zeros(1, np.int32), np.float32([[0, 0, 1, 1]])
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    create_store(tmp_path / "s", "lmdb", region_schema(4, "float32"), {})
    with open_part(tmp_path / "s") as writer:
        for number, key in enumerate(["a", "keys", "b"]):
            writer.put(key, Record(np.ones((1, 4), np.float32), box, (9, 9), 1, extra), number)
        writer.finish()
    out = tmp_path / "out"
    with open_store(tmp_path / "s") as store:
        with pytest.raises(UsageError, match="the key 'keys'"):
            get(name).write(Records(store), out, Options())
        assert {place.name for place in tmp_path.iterdir()} == {"s"}
        (tmp_path / "some.txt").write_text("b\na\n")
        assert get(name).write(Records(store, Options(keys=str(tmp_path / "some.txt"))), out, Options()) == 2
    assert [item.key for item in read(name, out)] == ["b", "a"]


def test_a_key_that_no_store_can_have_is_told_where_it_is_read(tmp_path: Path) -> None:
    path = made(tmp_path / "db", {key: volta(Picture(key)) for key in ("a", "b\n", "c")})
    items = read("volta-lmdb", path)
    assert [(item.key, item.record is None) for item in items] == [("a", False), ("", True), ("c", False)]
    assert "control characters" in items[1].problem


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    pictures = [Picture(str(n), 2, 40) for n in range(30)]
    path = made(tmp_path_factory.mktemp("fuzz") / "db", {p.key: vilbert(p) for p in pictures}) / "data.mdb"
    return path, path.read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2**24), st.binary(min_size=1, max_size=6)), max_size=12))
def test_no_change_of_the_file_makes_more_than_a_problem(
    small: tuple[Path, bytes], changes: list[tuple[int, bytes]]
) -> None:
    path, whole = small
    file = bytearray(whole)
    for place, change in changes:
        file[place % len(file) : place % len(file) + len(change)] = change
    path.write_bytes(file[: len(whole)])
    with suppress(FeatxError):
        for item in read("vilbert-lmdb", path):
            assert (item.record is None) == bool(item.problem)
    with suppress(FeatxError):
        get("vilbert-lmdb").survey(path, TRUST)
    assert get("vilbert-lmdb").detect(path) in (True, False)
