"""MMF's folder of npy: as its scripts leave it, in folders, with a half missing, and back to its own reader."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.formats import Options, Records, get
from featx.record import Record
from featx.schema import Array, region_schema
from featx.store import create_store, open_part, open_store
from tests.picture_files import (
    DAMAGES,
    SIZE,
    Damage,
    all_read,
    folder_of,
    golden_through,
    npy,
    of,
    pixels,
    read,
    second_is_told,
    survives,
)

FORM = get("mmf-npy")
TRUST = Options(allow_pickle=True)


def info(seed: int, rows: int = 3, **changes: Any) -> dict[str, Any]:
    """What extract_features_vmb.py tells of a picture."""
    rng = np.random.default_rng(seed)
    probs = rng.random((rows, 5)).astype("<f4")
    return {
        "bbox": pixels(rng, rows), "num_boxes": rows, "objects": probs.argmax(1), "cls_prob": probs,
        "image_width": SIZE[1], "image_height": SIZE[0], **changes,
    }  # fmt: skip


def features(seed: int, rows: int = 3) -> Array:
    return np.random.default_rng(100 + seed).random((rows, 8)).astype("<f4")


def saved(value: Any) -> bytes:
    """As the scripts' np.save(path, dict)."""
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


def pair(name: str, seed: int, rows: int = 3, **changes: Any) -> dict[str, bytes]:
    return {f"{name}.npy": of(features(seed, rows)), f"{name}_info.npy": saved(info(seed, rows, **changes))}


def test_what_the_script_writes_is_read_in_folders_too(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "f", pair("b", 1) | pair("in/deep/c", 2, 5) | pair("a", 3))
    records = all_read(FORM, path, TRUST, "a.npy", "b.npy", "in/deep/c.npy")
    for record, (seed, rows) in zip(records, [(3, 3), (1, 3), (2, 5)], strict=True):
        told = info(seed, rows)
        assert record.size == SIZE
        assert np.array_equal(record.features, features(seed, rows))
        assert np.array_equal(record.boxes, told["bbox"])
        assert np.array_equal(record.object_ids, told["objects"])
        assert np.array_equal(record.class_probs, told["cls_prob"])


# {'bbox': float32 [[0, 0, 3, 3]], 'objects': int64 [7], 'image_height': 3, 'image_width': 4} in an array of objects,
# pickled by protocol 2 with the names of numpy 1, every byte written out.
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
_STATE = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
_OBJECTS = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|" + _STATE + b"K?tb"
_FLOATS = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<" + _STATE + b"K\x00tb"
_LONGS = b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R(K\x03U\x01<" + _STATE + b"K\x00tb"
PICKLE = (
    b"\x80\x02" + _ARRAY + b"(K\x01)" + _OBJECTS + b"\x89]}("
    b"X\x04\x00\x00\x00bbox" + _ARRAY + b"(K\x01K\x01K\x04\x86" + _FLOATS
    + b"\x89U\x10" + bytes(8) + b"\x00\x00\x40\x40\x00\x00\x40\x40tb"
    b"X\x07\x00\x00\x00objects" + _ARRAY + b"(K\x01K\x01\x85" + _LONGS + b"\x89U\x08\x07" + bytes(7) + b"tb"
    b"X\x0c\x00\x00\x00image_heightK\x03X\x0b\x00\x00\x00image_widthK\x04" b"uatb."
)  # fmt: skip


def test_the_bytes_of_the_files_are_what_numpy_and_pickle_document(tmp_path: Path) -> None:
    files = {"a.npy": npy("<f4", (1, 2), bytes.fromhex("0000803f 000080bf")), "a_info.npy": npy("|O", (), PICKLE)}
    [item] = read(FORM, folder_of(tmp_path / "f", files), TRUST)
    record = item.record
    assert record is not None, item.problem
    assert record.size == (3, 4)
    assert record.features.tolist() == [[1, -1]]
    assert record.boxes.tolist() == [[0, 0, 3, 3]]
    assert record.object_ids.tolist() == [7]


def test_the_frcnn_script_is_met_as_it_is(tmp_path: Path) -> None:
    """Features of dropped regions, a constant for num_boxes, the top score only, and the size of another picture."""
    files = pair("a", 1, num_boxes=100, cls_prob=np.float32([0.5, 0.25, 0.125]), image_width=800, image_height=600)
    files["a.npy"] = of(features(1, 9))
    (tmp_path / "sizes.csv").write_text("a,90,120\n")
    options = Options(allow_pickle=True, sizes=str(tmp_path / "sizes.csv"))
    [item] = read(FORM, folder_of(tmp_path / "f", files), options)
    assert item.record is not None
    assert item.record.size == SIZE
    assert np.array_equal(item.record.features, features(1, 9)[:3])
    assert item.record.object_confs.tolist() == [0.5, 0.25, 0.125]


def vinvl(seed: int, rows: int, **changes: Any) -> tuple[Array, dict[str, Any]]:
    """What extract_features_vinvl.py saves: _norm_box behind the features, and the fields of the box list."""
    height, width = SIZE
    bbox_aug = np.zeros((rows, 6), np.float32)
    bbox_aug[:, :4] = pixels(np.random.default_rng(seed), rows)
    bbox_aug[:, [0, 2]] /= width
    bbox_aug[:, [1, 3]] /= height
    bbox_aug[:, 4:] = bbox_aug[:, 2:4] - bbox_aug[:, :2]
    told = {
        "labels": np.arange(rows), "scores": np.ones(rows, "f4"), "box_features": features(seed, rows),
        "bbox": bbox_aug, "image_width": width, "image_height": height, **changes,
    }  # fmt: skip
    return np.concatenate([told["box_features"], bbox_aug], 1), told


def test_what_the_script_for_vinvl_writes_is_read_with_boxes_in_pixels(tmp_path: Path) -> None:
    saves = {"a": vinvl(1, 3), "b": vinvl(2, 5)}
    files = {f"{name}.npy": of(matrix) for name, (matrix, _) in saves.items()}
    path = folder_of(tmp_path / "f", files | {f"{name}_info.npy": saved(told) for name, (_, told) in saves.items()})
    assert FORM.detect(path)
    for item, (seed, rows) in zip(read(FORM, path, TRUST), [(1, 3), (2, 5)], strict=True):
        assert item.record is not None, item.problem
        assert item.record.size == SIZE
        assert np.array_equal(item.record.features, features(seed, rows))
        assert item.record.boxes == pytest.approx(pixels(np.random.default_rng(seed), rows), abs=1e-4)
    (tmp_path / "sizes.csv").write_text("a,180,240\nb,180,240\n")
    item = read(FORM, path, Options(allow_pickle=True, sizes=str(tmp_path / "sizes.csv")))[0]
    assert item.record is not None
    assert item.record.size == (180, 240)
    assert item.record.boxes == pytest.approx(2 * pixels(np.random.default_rng(1), 3), abs=1e-4)


def test_the_one_file_per_picture_of_vilbert_is_read(tmp_path: Path) -> None:
    """As script/extract_features.py of vilbert-multi-task: num_boxes counts scores, objects lack the first row."""
    told = {"b": info(1, num_boxes=2), "a": info(2, 5, num_boxes=5)}
    for name, rows in (("b", 3), ("a", 5)):
        told[name] |= {"objects": told[name]["objects"][1:], "image_id": name, "features": features(rows, rows)}
    path = folder_of(tmp_path / "f", {f"{name}.npy": saved(values) for name, values in told.items()})
    with pytest.raises(UsageError, match="a pickle can run"):
        read(FORM, path)
    for record, key in zip(all_read(FORM, path, TRUST, "a.npy", "b.npy"), "ab", strict=True):
        values = told[key]
        assert record.size == SIZE
        for name, field in {"bbox": "boxes", "cls_prob": "class_probs", "features": "features"}.items():
            assert np.array_equal(record.array(field), values[name]), name
        assert record.object_ids.tolist() == [-1, *values["objects"]]


def test_a_folder_of_other_pickled_arrays_is_not_taken_for_this(tmp_path: Path) -> None:
    assert not FORM.detect(folder_of(tmp_path / "f", {"a.npy": saved({"captions": ["a", "b"]})}))


def test_nothing_is_read_unasked(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "f", pair("a", 1))
    for step in (FORM.survey, FORM.schema, read_all):
        with pytest.raises(UsageError, match="a pickle can run"):
            step(path, Options())


def read_all(path: Path, options: Options) -> Any:
    return read(FORM, path, options)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "features alone": ({"b.npy": of(features(1))}, "b_info.npy is no file"),
    "info alone": ({"b_info.npy": saved(info(1))}, "b.npy is no file"),
    "a grid": (pair("b", 1) | {"b.npy": npy("<f4", (1, 2, 2, 8), bytes(128))}, "features is float32[1, 2, 2, 8]"),
    "six numbers of others": (pair("b", 1, bbox=np.zeros((3, 6), "f4")), "do not end in the same"),
    "six numbers and no features": (
        pair("b", 1, bbox=np.zeros((3, 6), "f4")) | {"b.npy": of(np.zeros((3, 6), "f4"))}, "do not end in the same"
    ),
    "all in one file but the features": ({"b.npy": saved(info(1))}, "no features"),
    "no dict in one file": ({"b.npy": saved(None)}, "expected a dict"),
    "a name that is called": (pair("b", 1) | {"b_info.npy": saved(Trap())}, "asks for builtins.print"),
    "no dict": (pair("b", 1) | {"b_info.npy": of(features(1))}, "expected a dict"),
    "a cut file": (pair("b", 1) | {"b.npy": of(features(1))[:-4]}, "needs"),
    "a cut info": (pair("b", 1) | {"b_info.npy": saved(info(1))[:-40]}, "cut or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_told_and_the_rest_is_read(tmp_path: Path, case: str, capsys: Any) -> None:
    spoilt, said = BAD[case]
    path = folder_of(tmp_path / "f", pair("a", 1) | spoilt | pair("c", 2))
    second_is_told(FORM, path, TRUST, "abc", said)
    assert capsys.readouterr().out == ""


def mmf_reads(image_feat_path: Path, max_features: int) -> tuple[Array, dict[str, Any]]:
    """As FeatureReader and PaddedFasterRCNNFeatureReader of MMF's feature_readers.py: features padded with zeros."""
    image_feature = np.load(image_feat_path, allow_pickle=True)
    assert image_feature.ndim == 2, "by which MMF takes them for regions"
    info_path = f"{str(image_feat_path).split('.npy')[0]}_info.npy"
    image_info = np.load(info_path, allow_pickle=True).item()
    image_loc, image_dim = image_feature.shape
    padded = np.zeros((max_features, image_dim), np.float32)
    padded[:image_loc] = image_feature[:max_features]
    return padded, {**image_info, "max_features": image_loc}


def test_the_published_features_go_through_and_the_peers_reader_finds_them(shared: Path, tmp_path: Path) -> None:
    out, first, second = golden_through(FORM, shared, tmp_path)
    for key in first:
        record, back = first[key], second[key]
        assert list(back.extra) == ["object_ids", "object_confs"]
        assert back.size == record.size
        for name in ("features", "boxes", *back.extra):
            assert np.array_equal(back.array(name), record.array(name)), name
        padded, told = mmf_reads(out / f"{key}.npy", 100)
        assert np.array_equal(padded[:36], record.features)
        assert not padded[36:].any()
        assert sorted(told) == [
            "bbox", "cls_prob", "image_height", "image_width", "max_features", "num_boxes", "objects",
        ]  # fmt: skip
        assert (told["image_height"], told["image_width"]) == record.size
        assert told["num_boxes"] == told["max_features"] == 36
        assert np.array_equal(told["bbox"], record.boxes)
        assert told["objects"].dtype == np.int64
        assert np.array_equal(told["objects"], record.object_ids)


@pytest.mark.parametrize("key", ["../a", "a//b", "/a", "a/.", "a_info", "b/" + "x" * 248])
def test_keys_that_would_leave_the_folder_or_meet_another_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        write(tmp_path, [key])
    assert {place.name for place in tmp_path.iterdir()} == {"s"}


def test_keys_with_slashes_are_folders(tmp_path: Path) -> None:
    write(tmp_path, ["a/b", "a", "a/c/d"])
    assert [item.key for item in read(FORM, tmp_path / "out", TRUST)] == ["a", "a/b", "a/c/d"]
    write(tmp_path, ["a/b"], "s2")
    assert [item.key for item in read(FORM, tmp_path / "out", TRUST)] == ["a/b"], "an older one is replaced"


def test_two_pictures_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the name of another"):
        write(tmp_path, ["a.npy/b", "a"])
    assert {place.name for place in tmp_path.iterdir()} == {"s"}


def write(folder: Path, keys: list[str], name: str = "s") -> None:
    create_store(folder / name, "lmdb", region_schema(4, "float32"), {})
    confs, box = np.ones(1, np.float32), np.float32([[0, 0, 1, 1]])
    ids = np.zeros(1, np.int32)
    extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
    with open_part(folder / name) as writer:
        for number, key in enumerate(keys):
            writer.put(key, Record(np.ones((1, 4), np.float32), box, (9, 9), 1, extra), number)
        writer.finish()
    with open_store(folder / name) as store:
        FORM.write(Records(store), folder / "out", Options())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = pair("0", 0) | pair("1", 1) | {"2.npy": of(features(2, 1)), "2_info.npy": npy("|O", (), PICKLE)}
    matrix, told = vinvl(3, 3)
    files |= {"3.npy": of(matrix), "3_info.npy": saved(told), "4.npy": saved({**info(4), "features": features(4)})}
    return folder_of(tmp_path_factory.mktemp("fuzz") / "f", files)


@settings(max_examples=200)
@given(damage=DAMAGES, name=st.sampled_from(["1.npy", "0_info.npy", "2_info.npy", "3.npy", "3_info.npy", "4.npy"]))
def test_no_damage_makes_more_than_a_problem(small: Path, damage: Damage, name: str) -> None:
    survives(FORM, small, small / name, damage, TRUST)
