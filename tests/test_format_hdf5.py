"""HDF5 of hengyuan-hu, ban-vqa and volta: read as their converters write, written as their readers read."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featx.errors import UsageError
from featx.formats import get
from featx.formats.base import Item
from featx.formats.options import Options
from featx.formats.records import Records
from featx.schema import Array
from featx.store import StoreReader, open_store
from tests.foreign import import_tsv

FIXED, ADAPTIVE, VOLTA = map(get, ("vqa-hdf5-fixed", "vqa-hdf5-adaptive", "volta-hdf5"))
SIZES = [(480, 640), (333, 500), (640, 427)]


def boxes_of(size: tuple[int, int], rows: int, seed: int) -> Array:
    height, width = size
    corners = np.sort(np.random.default_rng(seed).random((rows, 2, 2), np.float32), axis=1).reshape(rows, 4)
    return corners * np.float32([width - 1, height - 1, width - 1, height - 1])


def features_of(rows: int, seed: int, dim: int = 8) -> Array:
    return np.random.default_rng(seed + 1000).random((rows, dim), np.float32)


def spatial_of(boxes: Array, size: tuple[int, int]) -> Array:
    """The loop of detection_features_converter.py: sizes are Python floats, arrays float32."""
    height, width = map(float, size)
    x, y = boxes[:, 0] / width, boxes[:, 1] / height
    w, h = (boxes[:, 2] - boxes[:, 0]) / width, (boxes[:, 3] - boxes[:, 1]) / height
    return np.stack([x, y, x + w, y + h, w, h], 1)


def fixed(path: Path, rows: int = 4, count: int = 3, written: int = 3) -> Path:
    """As detection_features_converter.py makes one, of which ``written`` pictures were written."""
    with h5py.File(path, "w") as file:
        features = file.create_dataset("image_features", (count, rows, 8), "f")
        bb = file.create_dataset("image_bb", (count, rows, 4), "f")
        spatial = file.create_dataset("spatial_features", (count, rows, 6), "f")
        for n in range(written):
            boxes = boxes_of(SIZES[n], rows, n)
            features[n, :, :], bb[n, :, :], spatial[n, :, :] = features_of(rows, n), boxes, spatial_of(boxes, SIZES[n])
    return path


def adaptive(path: Path, counts: tuple[int, ...] = (3, 1, 5), written: int = 3) -> Path:
    total, at = sum(counts), 0
    with h5py.File(path, "w") as file:
        features = file.create_dataset("image_features", (total, 8), "f")
        bb = file.create_dataset("image_bb", (total, 4), "f")
        spatial = file.create_dataset("spatial_features", (total, 6), "f")
        pos = file.create_dataset("pos_boxes", (len(counts), 2), dtype="int32")
        for n, rows in enumerate(counts[:written]):
            boxes = boxes_of(SIZES[n], rows, n)
            pos[n, :] = np.array([at, at + rows])
            features[at : at + rows, :], bb[at : at + rows, :] = features_of(rows, n), boxes
            spatial[at : at + rows, :] = spatial_of(boxes, SIZES[n])
            at += rows
    return path


# cPickle.dump({900: 0, 7: 1, 42: 2}, file) of Python 2, protocol 0
PYTHON_2 = b"(dp1\nI900\nI0\nsI7\nI1\nsI42\nI2\ns."


def with_ids(path: Path, kind: str = "json") -> Path:
    content = PYTHON_2 if kind == "pkl" else b'{"900": 0, "7": 1, "42": 2}'
    path.with_name(f"{path.stem}_imgid2idx.{kind}").write_bytes(content)
    return path


def read(form: Any, path: Path, options: Options = Options(), start: int = 0) -> list[Item]:  # noqa: B008
    return list(form.read(path, options, start))


def check(items: list[Item], counts: tuple[int, ...]) -> None:
    for n, (item, rows) in enumerate(zip(items, counts, strict=True)):
        assert item.record is not None, item.problem
        assert item.record.size == SIZES[n]
        assert np.array_equal(item.record.features, features_of(rows, n))
        assert np.array_equal(item.record.boxes, boxes_of(SIZES[n], rows, n))


@pytest.mark.parametrize("kind", ["json", "pkl"])
def test_what_the_converters_write_is_read_with_the_sizes_that_boxes_and_parts_tell(tmp_path: Path, kind: str) -> None:
    options = Options(key="COCO_val2014_{:012d}", allow_pickle=kind == "pkl")
    for form, path, counts in (
        (FIXED, with_ids(fixed(tmp_path / "train36.hdf5"), kind), (4, 4, 4)),
        (ADAPTIVE, with_ids(adaptive(tmp_path / "train.hdf5"), kind), (3, 1, 5)),
    ):
        assert [other.detect(path) for other in (FIXED, ADAPTIVE, VOLTA)] == [form is FIXED, form is ADAPTIVE, False]
        items = read(form, path, options)
        assert [item.key[-3:] for item in items] == ["900", "007", "042"]
        assert items[0].key == "COCO_val2014_000000000900"
        check(items, counts)
        assert read(form, path, options, 2) == items[2:]
        assert form.survey(path, options).total == 3


def test_a_pickle_of_ids_is_read_on_request_only_and_no_ids_at_all_is_an_error(tmp_path: Path) -> None:
    path = fixed(tmp_path / "train36.hdf5")
    with pytest.raises(UsageError, match=r"train36_imgid2idx\.pkl"):
        read(FIXED, path)
    with_ids(path, "pkl")
    with pytest.raises(UsageError, match="pickle"):
        read(FIXED, path)
    path.with_name("train36_imgid2idx.json").write_text("[1, 2]")
    with pytest.raises(UsageError, match="expected a mapping"):
        read(FIXED, path)


@pytest.mark.parametrize("form", [FIXED, ADAPTIVE])
def test_rows_that_an_interrupted_run_did_not_come_to_are_told(tmp_path: Path, form: Any) -> None:
    path = with_ids((fixed if form is FIXED else adaptive)(tmp_path / "x.hdf5", written=2))
    items = read(form, path)
    check(items[:2], (4, 4) if form is FIXED else (3, 1))
    assert items[2].record is None
    assert "zeros" in items[2].problem
    assert items[2].key == "42"


def test_rows_without_an_id_with_two_or_with_parts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = fixed(tmp_path / "x.hdf5")
    path.with_name("x_imgid2idx.json").write_text('{"900": 0, "901": 0, "42": 2}')
    with h5py.File(path, "r+") as file:
        file["spatial_features"][2, 1, 0] += 0.5
    items = read(FIXED, path)
    assert ["2 ids" in items[0].problem, "0 ids" in items[1].problem, "differ by" in items[2].problem] == [True] * 3


def test_a_range_of_rows_that_is_none_is_told(tmp_path: Path) -> None:
    path = with_ids(adaptive(tmp_path / "x.hdf5"))
    with h5py.File(path, "r+") as file:
        file["pos_boxes"][1] = [7, 99]
    items = read(ADAPTIVE, path)
    assert "rows 7 to 99 of 9" in items[1].problem
    assert items[2].record is not None


def test_of_a_file_that_was_cut_the_pictures_that_are_there_whole_are_read(tmp_path: Path) -> None:
    path = with_ids(fixed(tmp_path / "x.hdf5", rows=60))
    with h5py.File(path) as file:
        place = file["spatial_features"].id.get_offset()  # the last of the arrays in the file
        assert place > file["image_features"].id.get_offset()
    path.write_bytes(path.read_bytes()[: place + 60 * 6 * 4 + 100])
    items = read(FIXED, path)
    check(items[:1], (60,))
    assert ["behind the end" in item.problem for item in items] == [False, True, True]


def volta(path: Path, keys: tuple[str, ...] = ("b", "a", "sub/c")) -> Path:
    """As tsv_to_h5.py makes one."""
    with h5py.File(path, "w") as file:
        for n, key in enumerate(keys):
            group = file.create_group(key)
            group["features"], group["boxes"] = features_of(36, n), boxes_of(SIZES[n], 36, n)
            group["obj_id"], group["attr_id"] = np.arange(36) + n, np.arange(36) + 2 * n
            group["obj_conf"], group["attr_conf"] = np.linspace(0, 1, 36, dtype="f4"), np.linspace(1, 0, 36, dtype="f4")
            group["img_h"], group["img_w"] = SIZES[n]
    return path


def test_groups_of_volta_are_read_by_their_names(tmp_path: Path) -> None:
    path = volta(tmp_path / "x.h5")
    assert [form.detect(path) for form in (FIXED, ADAPTIVE, VOLTA)] == [False, False, True]
    items = read(VOLTA, path)
    assert [item.key for item in items] == ["a", "b", "sub/c"]
    check([items[1], items[0], items[2]], (36, 36, 36))
    record = items[0].record
    assert record is not None
    assert record.object_ids.tolist() == list(range(1, 37))
    assert record.attribute_ids.tolist() == list(range(2, 38))
    assert record.object_confs[-1] == record.attribute_confs[0] == 1
    assert read(VOLTA, path, start=2) == items[2:]
    assert VOLTA.survey(path, Options()).total == 3


def test_a_bad_group_is_told_and_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    path, other = volta(tmp_path / "x.h5"), volta(tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        del file["a"]["boxes"]
        file["b"]["boxes"][0, 2] = 5000
        file["link"] = h5py.ExternalLink(str(other), "a")
        file["z"] = np.zeros(3)
        group = file.create_group("external")
        for name in ("boxes", "img_h", "img_w"):
            group[name] = file["sub/c"][name][()]
        group.create_dataset("features", (36, 8), "f4", external=[(str(other), 0, 36 * 8 * 4)])
    items = {item.key: item for item in read(VOLTA, path)}
    assert "no boxes" in items["a"].problem
    assert items["b"].record is not None  # a record's own check refuses it
    assert items["link"].record is None
    assert "features" in items["external"].problem
    assert items["z"].record is None
    assert items["sub/c"].record is not None


@pytest.mark.parametrize("content", [b"", b"hello", h5py.h5.__name__.encode(), b"\x89HDF\r\n\x1a\n" + bytes(100)])
@pytest.mark.parametrize("form", [FIXED, ADAPTIVE, VOLTA])
def test_what_is_no_hdf5_is_an_error(tmp_path: Path, form: Any, content: bytes) -> None:
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    with_ids(path)
    assert not form.detect(path)
    with pytest.raises(UsageError):
        read(form, path)


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    folder = tmp_path_factory.mktemp("golden")
    import_tsv(shared / "golden" / "train2014_obj36.tsv", folder / "store")
    return open_store(folder / "store")


@pytest.mark.parametrize("form", [FIXED, ADAPTIVE])
def test_the_published_features_go_through_and_the_peers_reader_finds_them(
    golden: StoreReader, tmp_path: Path, form: Any
) -> None:
    path, keys = tmp_path / "train36.hdf5", list(golden.keys("source"))
    assert form.write(Records(golden, Options(ids="digits")), path, Options()) == 10
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "train36.hdf5", "train36_imgid2idx.json", "train36_imgid2idx.pkl", "train_ids.pkl",
    ]  # fmt: skip
    imgid2idx = pickle.loads((tmp_path / "train36_imgid2idx.pkl").read_bytes())
    assert imgid2idx == {int(key[-12:]): row for row, key in enumerate(keys)}
    assert pickle.loads((tmp_path / "train_ids.pkl").read_bytes()) == set(imgid2idx)
    with h5py.File(path) as hf:  # as VQAFeatureDataset of dataset.py does
        features, bb = np.array(hf.get("image_features")), np.array(hf.get("image_bb"))
        spatials, pos = np.array(hf.get("spatial_features")), np.array(hf.get("pos_boxes"))
        assert hf["image_features"].chunks is None
    for key in keys:
        row = imgid2idx[int(key[-12:])]
        place = row if form is FIXED else slice(pos[row][0], pos[row][1])
        record = golden[key]
        assert np.array_equal(features[place], record.features)
        assert np.array_equal(bb[place], record.boxes)
        assert np.allclose(spatials[place], spatial_of(record.boxes, record.size), atol=1e-6)
        assert features.dtype == spatials.dtype == np.float32
    items = read(form, path, Options(key="COCO_train2014_{:012d}"))
    assert [item.key for item in items] == keys
    for item in items:
        assert item.record is not None
        assert item.record.size == golden[item.key].size
        assert np.array_equal(item.record.features, golden[item.key].features)
        assert np.array_equal(item.record.boxes, golden[item.key].boxes)


def test_the_published_features_go_through_voltas_file_unchanged(golden: StoreReader, tmp_path: Path) -> None:
    path = tmp_path / "train.h5"
    assert VOLTA.write(Records(golden), path, Options()) == 10
    items = read(VOLTA, path)
    assert [item.key for item in items] == sorted(golden.keys())
    with h5py.File(path) as file:  # as h5_to_lmdb.py does
        for item in items:
            assert item.record == golden[item.key]
            found = {name: file[item.key][name][()] for name in file[item.key]}
            assert {name: str(array.dtype) for name, array in found.items()} == {
                "attr_conf": "float32", "attr_id": "int64", "boxes": "float32", "features": "float32", "img_h": "int64",
                "img_w": "int64", "obj_conf": "float32", "obj_id": "int64",
            }  # fmt: skip
            assert np.array_equal(found["obj_id"], golden[item.key].object_ids)
            assert (found["img_h"], found["img_w"]) == golden[item.key].size


def test_what_a_file_cannot_hold_is_refused_before_anything_is_written(golden: StoreReader, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no number"):
        FIXED.write(Records(golden), tmp_path / "x.hdf5", Options())
    (tmp_path / "ids.json").write_text(json.dumps(dict.fromkeys(golden, 5)))
    with pytest.raises(UsageError, match="both become 5"):
        FIXED.write(Records(golden, Options(ids=str(tmp_path / "ids.json"))), tmp_path / "x.hdf5", Options())
    assert [each.name for each in tmp_path.iterdir()] == ["ids.json"]


def stored(path: Path, form: Any, source: Path, keys: dict[str, str]) -> StoreReader:
    """A store of the items of ``source`` under other keys."""
    from featx.store import create_store, open_part

    create_store(path, "lmdb", form.schema(source, Options()), {})
    with open_part(path) as writer:
        for item in read(form, source):
            assert item.record is not None
            writer.put(keys.get(item.key, item.key), item.record, item.number)
        writer.finish()
    return open_store(path)


def test_pictures_of_other_counts_go_into_the_adaptive_file_only(tmp_path: Path) -> None:
    store = stored(tmp_path / "s", ADAPTIVE, with_ids(adaptive(tmp_path / "in.hdf5")), {})
    with pytest.raises(UsageError, match="from 1 to 5 regions"):
        FIXED.write(Records(store), tmp_path / "x.hdf5", Options())
    ADAPTIVE.write(Records(store), tmp_path / "x.hdf5", Options())
    check(read(ADAPTIVE, tmp_path / "x.hdf5"), (3, 1, 5))


def test_a_key_inside_the_group_of_another_picture_cannot_be_written(tmp_path: Path) -> None:
    source = volta(tmp_path / "in.h5")
    for renamed in ({"b": "a/b"}, {"b": "x//b"}, {"b": "/b"}, {"b": "x/features"}, {"b": "x/img_w/c"}):
        store = stored(tmp_path / f"s{len(list(tmp_path.iterdir()))}", VOLTA, source, renamed)
        with pytest.raises(UsageError, match="group of its own"):
            VOLTA.write(Records(store), tmp_path / "x.h5", Options())
    assert not (tmp_path / "x.h5").exists()


def test_keys_that_begin_like_an_array_or_only_look_like_one_come_back(tmp_path: Path) -> None:
    source = volta(tmp_path / "in.h5")
    renamed = {"a": "features", "b": "boxes/b", "sub/c": "x/features.jpg"}
    store = stored(tmp_path / "s", VOLTA, source, renamed)
    VOLTA.write(Records(store), tmp_path / "x.h5", Options())
    items = {item.key: item.record for item in read(VOLTA, tmp_path / "x.h5")}
    assert sorted(items) == ["boxes/b", "features", "x/features.jpg"]
    for key, record in items.items():
        assert record is not None
        assert np.array_equal(record.features, store[key].features)


FUZZ = """
import sys, random
from pathlib import Path
from featx.errors import FeatxError
from featx.formats import get
from featx.formats.options import Options
path, name, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole, form = path.read_bytes(), get(name)
kept = bytes(whole)
for seed in range(first, first + count):
    print(seed, flush=True)
    rng, file = random.Random(seed), bytearray(whole)
    limit = len(file) if seed % 2 else min(len(file), 6000)  # half of the time near the beginning, where structures are
    for _ in range(rng.randrange(1, 6)):
        at, value = rng.randrange(limit), rng.randbytes(rng.choice([1, 1, 2, 4, 8]))
        file[at : at + len(value)] = value
    path.write_bytes(file[: rng.randrange(len(file))] if seed % 5 == 0 else file)
    try:
        form.detect(path)
        for item in form.read(path, Options()):
            assert (item.record is None) == bool(item.problem)
    except FeatxError:
        pass
path.write_bytes(kept)
print("done")
"""


@pytest.mark.parametrize("form", [FIXED, ADAPTIVE, VOLTA])
def test_no_change_of_the_file_makes_more_than_a_problem(tmp_path: Path, form: Any) -> None:
    """In a process of its own: the library is C, and a crash must fail the test and not end it."""
    make = {
        FIXED: lambda: with_ids(fixed(tmp_path / "x.hdf5")),
        ADAPTIVE: lambda: with_ids(adaptive(tmp_path / "x.hdf5")),
    }
    path = make.get(form, lambda: volta(tmp_path / "x.h5", ("a", "b")))()
    command = [sys.executable, "-c", FUZZ, str(path), form.name, "0", "150"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.endswith("done\n"), (done.returncode, done.stdout[-20:], done.stderr[-2000:])
