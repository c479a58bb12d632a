"""MILVLG's folder of npz: as its scripts leave it and as openvqa wants it, and back to its own readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.formats import Options, get
from featx.schema import Array
from tests.picture_files import (
    DAMAGES,
    SIZE,
    Damage,
    all_read,
    damaged,
    folder_of,
    golden_through,
    npy,
    npz,
    of,
    pixels,
    read,
    second_is_told,
    survives,
)

FORM = get("bua-npz")
TRUST = Options(allow_pickle=True)


def arrays(seed: int, rows: int = 3, dim: int = 8) -> dict[str, Any]:
    """What the extraction of one picture gives, ids from 0."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.random((rows, dim)).astype("<f4"), "bbox": pixels(rng, rows), "num_bbox": rows,
        "image_h": SIZE[0], "image_w": SIZE[1],
        "info": {
            "image_id": "a", "image_h": SIZE[0], "image_w": SIZE[1], "num_boxes": rows,
            "objects_id": rng.integers(0, 1600, rows), "objects_conf": rng.random(rows).astype("<f4"),
            "attrs_id": rng.integers(0, 400, rows), "attrs_conf": rng.random(rows).astype("<f4"),
        },
    }  # fmt: skip


def saved(values: dict[str, Any]) -> bytes:
    """As the script's np.savez_compressed(path, x=..., bbox=..., info=...)."""
    out = io.BytesIO()
    np.savez_compressed(out, **values)
    return out.getvalue()


def test_what_the_script_writes_is_read_with_its_classes_on_request(tmp_path: Path) -> None:
    given_ = {"b": arrays(1), "a": arrays(2, 5)}
    path = folder_of(tmp_path / "f", {f"{name}.npz": saved(values) for name, values in given_.items()})
    for options in (Options(), TRUST):
        for record, name in zip(all_read(FORM, path, options, "a.npz", "b.npz"), "ab", strict=True):
            values = given_[name]
            assert record.size == SIZE
            assert np.array_equal(record.features, values["x"])
            assert np.array_equal(record.boxes, values["bbox"])
            if not options.allow_pickle:
                assert list(record.extra) == []
                continue
            info = values["info"]
            assert list(record.extra) == ["object_ids", "object_confs", "attribute_ids", "attribute_confs"]
            assert np.array_equal(record.object_ids, info["objects_id"])
            assert np.array_equal(record.object_confs, info["objects_conf"])
            assert np.array_equal(record.attribute_ids, info["attrs_id"])
            assert np.array_equal(record.attribute_confs, info["attrs_conf"])


# What Python 2 and numpy 1 pickled of array({'objects_id': array([7, 0]), 'objects_conf': ...}, dtype=object), protocol
# 2, written out by hand: int64 7, 0 and float32 0.5, 0.25.
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def _dtype(code: bytes, order: bytes, flags: bytes) -> bytes:
    """A pickled dtype: its code of two letters, and its state."""
    state = b"(K\x03U\x01" + order + b"NNNJ" + b"\xff" * 4 + b"J" + b"\xff" * 4 + b"K" + flags + b"tb"
    return b"cnumpy\ndtype\nU\x02" + code + b"K\x00K\x01\x87R" + state


PICKLE = (
    b"\x80\x02" + _ARRAY + b"(K\x01)" + _dtype(b"O8", b"|", b"?") + b"\x89]}("
    b"X\x0a\x00\x00\x00objects_id" + _ARRAY + b"(K\x01K\x02\x85" + _dtype(b"i8", b"<", b"\x00") + b"\x89"
    b"U\x10\x07" + bytes(15) + b"tb"
    b"X\x0c\x00\x00\x00objects_conf" + _ARRAY + b"(K\x01K\x02\x85" + _dtype(b"f4", b"<", b"\x00") + b"\x89"
    b"U\x08\x00\x00\x00\x3f\x00\x00\x80\x3etb" b"uatb."
)  # fmt: skip


def by_hand() -> dict[str, bytes]:
    """The members of a file with two regions of two features, every byte written out."""
    return {
        "x": npy("<f4", (2, 2), bytes.fromhex("0000803f 00000040 000080bf 00000000")),
        "bbox": npy("<f4", (2, 4), bytes.fromhex("00000000 00000000 00004040 00004040" * 2)),
        "num_bbox": npy("<i8", (), b"\x02" + bytes(7)),
        "image_h": npy("<i8", (), b"\x03" + bytes(7)),
        "image_w": npy("<i8", (), b"\x04" + bytes(7)),
        "info": npy("|O", (), PICKLE),
    }


def test_the_bytes_of_a_file_are_what_the_peers_leave(tmp_path: Path) -> None:
    [item] = read(FORM, folder_of(tmp_path / "f", {"a.npz": npz(by_hand())}), TRUST)
    record = item.record
    assert record is not None, item.problem
    assert record.size == (3, 4)
    assert record.features.tolist() == [[1, 2], [-1, 0]]
    assert record.boxes.tolist() == [[0, 0, 3, 3]] * 2
    assert record.object_ids.tolist() == [7, 0]
    assert record.object_confs.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("names", [("image_h", "image_w"), ("height", "width")])
@pytest.mark.parametrize("turned", [False, True])
def test_the_files_of_openvqa_are_read(tmp_path: Path, names: tuple[str, str], turned: bool) -> None:
    values = arrays(1)
    made = {"x": of(values["x"].T.copy() if turned else values["x"]), "bbox": of(values["bbox"])}
    made |= {name: npy("<i8", (), int(side).to_bytes(8, "little")) for name, side in zip(names, SIZE, strict=True)}
    [item] = read(FORM, folder_of(tmp_path / "f", {"a.npz": npz(made)}))
    assert item.record is not None
    assert item.record.size == SIZE
    assert np.array_equal(item.record.features, values["x"])


def test_sizes_that_a_mode_leaves_out_can_be_told(tmp_path: Path) -> None:
    members = {name: content for name, content in by_hand().items() if not name.startswith("image_")}
    path = folder_of(tmp_path / "f", {"a.npz": npz(members)})
    [item] = read(FORM, path)
    assert "--sizes" in item.problem
    (tmp_path / "sizes.csv").write_text("a,5,6\n")
    [item] = read(FORM, path, Options(sizes=str(tmp_path / "sizes.csv")))
    assert item.record is not None
    assert item.record.size == (5, 6)


class Tensor:
    """Stands for the torch tensor that detectron2's mode pickles: a call of a name that is no plain data."""

    def __reduce__(self) -> Any:
        return print, ("a tensor",)


BAD: dict[str, tuple[bytes, str]] = {
    "boxes without features": (saved({k: v for k, v in arrays(1).items() if k != "x"}), "no x"),
    "other rows": (saved(arrays(1) | {"x": arrays(1, 2)["x"]}), "3 boxes but features of 2"),
    "swapped sides": (
        saved(arrays(1) | {"image_h": 120, "image_w": 60, "bbox": np.float32([[0, 0, 110, 50]] * 3)}), "swapped"
    ),
    "tensors in info": (saved(arrays(1) | {"info": {"objects_id": Tensor()}}), "asks for builtins.print"),
    "text for info": (saved(arrays(1) | {"info": np.array("x", object)}), "expected a dict"),
    "ids that do not fit": (saved(arrays(1) | {"info": {"objects_id": np.arange(7)}}), "expected 3 numbers"),
    "pickled features": (saved(arrays(1) | {"x": np.array([None])}), "Object arrays"),
    "half a file": (saved(arrays(1))[:500], "zip"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_and_the_rest_is_read(tmp_path: Path, case: str) -> None:
    spoilt, said = BAD[case]
    path = folder_of(tmp_path / "f", {"a.npz": saved(arrays(1)), "b.npz": spoilt, "c.npz": saved(arrays(2))})
    second_is_told(FORM, path, TRUST, "abc", said)


def test_tensors_in_the_classes_leave_the_regions_to_be_read_without_them(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "f", {"a.npz": saved(arrays(1) | {"info": {"objects_id": Tensor()}})})
    [refused] = read(FORM, path, TRUST)
    assert "without --allow-pickle all but its classes is read" in refused.problem
    [item] = read(FORM, path)
    assert item.record is not None
    assert np.array_equal(item.record.features, arrays(1)["x"])
    assert item.record.extra == {}


@pytest.mark.parametrize("scores", ["attrs_scores", "attrs_conf"])
def test_scores_of_all_attributes_in_the_place_of_ids_leave_the_rest_to_be_read(tmp_path: Path, scores: str) -> None:
    """As detectron2's mode has them: attrs_id are probabilities, and attrs_scores or attrs_conf logits."""
    rng, values = np.random.default_rng(5), arrays(1)
    told = {"image_id": "a", "num_boxes": 3, "objects": np.int64([4, 0, 7]), "cls_prob": rng.random((3, 10), "f4")}
    told |= {"attrs_id": rng.random((3, 400), "f4"), scores: rng.random((3, 400), "f4")}
    [item] = read(FORM, folder_of(tmp_path / "f", {"a.npz": saved(values | {"info": told})}), TRUST)
    assert item.record is not None, item.problem
    assert sorted(item.record.extra) == ["class_probs", "object_ids"]
    assert item.record.object_ids.tolist() == [4, 0, 7]
    assert np.array_equal(item.record.class_probs, told["cls_prob"])
    assert np.array_equal(item.record.features, values["x"])


def given_boxes(bbox_dir: Path, im_file: str) -> Array:
    """As the script's mode bbox_feats reads the boxes of a picture."""
    with np.load(bbox_dir / (im_file.split(".")[0] + ".npz")) as found:
        boxes: Array = found["bbox"]
    return boxes


def proc_img_feat(frcn_feat: Any) -> tuple[Array, Array]:
    """As openvqa's GQA loader takes features and boxes, with the names of the sides that this format has."""
    x, bbox = frcn_feat["x"], frcn_feat["bbox"]
    size = np.float32([frcn_feat["image_w"], frcn_feat["image_h"]])
    return x, bbox / np.concatenate([size, size])


def test_the_published_features_go_through_and_the_peers_readers_find_them(shared: Path, tmp_path: Path) -> None:
    out, first, second = golden_through(FORM, shared, tmp_path)
    for key in first:
        record, back = first[key], second[key]
        assert back == record, "nothing is lost"
        assert np.array_equal(given_boxes(out, f"{key}.jpg"), record.boxes)
        with np.load(out / f"{key}.npz", allow_pickle=True) as found:
            assert sorted(found.files) == ["bbox", "image_h", "image_w", "info", "num_bbox", "x"]
            x, shares = proc_img_feat(found)
            info, number = found["info"].item(), int(found["num_bbox"])
        height, width = record.size
        assert x.dtype == np.float32
        assert np.array_equal(x, record.features)
        assert np.array_equal(shares, record.boxes / np.float32([width, height, width, height]))
        assert (number, info["num_boxes"], info["image_id"], info["image_h"], info["image_w"]) == (
            36, 36, key, height, width,
        )  # fmt: skip
        for name, field in {"objects_id": "object_ids", "attrs_conf": "attribute_confs"}.items():
            assert np.array_equal(info[name], record.array(field))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"0.npz": saved(arrays(0)), "1.npz": saved(arrays(1)), "2.npz": npz(by_hand(), 0)}
    return folder_of(tmp_path_factory.mktemp("fuzz") / "f", files)


@settings(max_examples=120)
@given(damage=DAMAGES, number=st.integers(0, 2))
def test_no_damage_makes_more_than_a_problem(small: Path, damage: Damage, number: int) -> None:
    survives(FORM, small, small / f"{number}.npz", damage, TRUST)


@settings(max_examples=120)
@given(damage=DAMAGES)
def test_no_damage_of_the_pickle_makes_more_than_a_problem(small: Path, damage: Damage) -> None:
    (small / "2.npz").write_bytes(npz(by_hand() | {"info": npy("|O", (), damaged(PICKLE, damage))}))
    assert [item.record is None for item in read(FORM, small, TRUST)][:2] == [False, False]
