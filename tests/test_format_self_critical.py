"""The folders of self-critical.pytorch: as make_bu_data.py leaves them, and back to its own loader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.formats import Options, Records, get
from featx.schema import Array
from featx.store import open_store
from tests.foreign import import_tsv
from tests.picture_files import (
    DAMAGES,
    SIZE,
    Damage,
    all_read,
    golden_through,
    npy,
    npz,
    of,
    pixels,
    read,
    second_is_told,
    survives,
    told_sizes,
)

FORM = get("self-critical")


def features(seed: int, rows: int = 3) -> Array:
    return np.random.default_rng(seed).random((rows, 8)).astype("<f4")


def boxes(seed: int, rows: int = 3) -> Array:
    return pixels(np.random.default_rng(100 + seed), rows)


def made(path: Path, pictures: dict[str, int], name: str = "cocobu") -> Path:
    """As make_bu_data.py: np.savez_compressed(feat=...), np.save of the mean, np.save of the boxes."""
    for kind in ("att", "fc", "box"):
        (path / f"{name}_{kind}").mkdir(parents=True)
    for number, seed in pictures.items():
        np.savez_compressed(path / f"{name}_att" / number, feat=features(seed))
        np.save(path / f"{name}_fc" / number, features(seed).mean(0))
        np.save(path / f"{name}_box" / number, boxes(seed))
    return path


@pytest.fixture
def told(tmp_path: Path) -> Options:
    return Options(sizes=told_sizes(tmp_path))


def test_what_the_script_writes_is_read(tmp_path: Path, told: Options) -> None:
    path = made(tmp_path / "data", {"10": 1, "9": 2})
    for source in (path, path / "cocobu_att"):
        for record, seed in zip(all_read(FORM, source, told, "10.npz", "9.npz"), (1, 2), strict=True):
            assert record.size == SIZE
            assert np.array_equal(record.features, features(seed))
            assert np.array_equal(record.boxes, boxes(seed))
            assert list(record.extra) == []


def test_the_bytes_of_the_files_are_what_numpy_documents(tmp_path: Path, told: Options) -> None:
    path = made(tmp_path / "data", {})
    (path / "cocobu_att" / "7.npz").write_bytes(npz({"feat": npy("<f4", (1, 2), bytes.fromhex("0000803f 000080bf"))}))
    (path / "cocobu_box" / "7.npy").write_bytes(npy("<f4", (1, 4), bytes(8) + bytes.fromhex("00004040 00008040")))
    [item] = read(FORM, path, told)
    assert item.record is not None
    assert item.record.features.tolist() == [[1, -1]]
    assert item.record.boxes.tolist() == [[0, 0, 3, 4]]


def test_of_several_sets_in_a_folder_one_is_named(tmp_path: Path, told: Options) -> None:
    path = made(made(tmp_path / "data", {"1": 1}), {"2": 2}, "flickr")
    with pytest.raises(UsageError, match="cocobu_att, flickr_att"):
        read(FORM, path, told)
    assert [item.key for item in read(FORM, path / "flickr_att", told)] == ["2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no folder NAME_att"):
        read(FORM, tmp_path / "empty", told)


def test_without_sizes_or_boxes_nothing_can_be_read(tmp_path: Path, told: Options) -> None:
    path = made(tmp_path / "data", {"1": 1})
    with pytest.raises(UsageError, match="--sizes"):
        read(FORM, path)
    (path / "cocobu_box").rename(path / "elsewhere")
    assert not FORM.detect(path)
    with pytest.raises(UsageError, match="no boxes"):
        read(FORM, path, told)


BAD: dict[str, tuple[bytes, bytes | None, str]] = {
    "no boxes": (npz({"feat": of(features(1))}), None, "2.npy is no file"),
    "another name": (npz({"x": of(features(1))}), of(boxes(1)), "no feat"),
    "other rows": (npz({"feat": of(features(1, 4))}), of(boxes(1)), "expected [N, D]"),
    "a grid": (npz({"feat": npy("<f4", (2, 2, 8), bytes(128))}), of(boxes(1)), "feat is float32[2, 2, 8]"),
    "a cut archive": (npz({"feat": of(features(1))})[:-30], of(boxes(1)), "zip"),
    "cut boxes": (npz({"feat": of(features(1))}), of(boxes(1))[:-1], "needs"),
    "sizes the wrong way round": (npz({"feat": of(features(1))}), of(np.float32([[0, 0, 80, 119]] * 3)), "swapped"),
    "pickles": (npz({"feat": npy("|O", (), b".")}), of(boxes(1)), "Object arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_told_and_the_rest_is_read(tmp_path: Path, told: Options, case: str) -> None:
    att, box, said = BAD[case]
    path = made(tmp_path / "data", {"1": 1, "3": 3})
    (path / "cocobu_att" / "2.npz").write_bytes(att)
    if box is not None:
        (path / "cocobu_box" / "2.npy").write_bytes(box)
    second_is_told(FORM, path, told, "123", said)


def loader_reads(data: Path, ix: str, h: int, w: int) -> tuple[Array, Array]:
    """As HybridLoader and Dataset.__getitem__ of captioning/data/dataloader.py with use_box=1, norm_box_feat=0."""
    att_feat = np.load(io.BytesIO((data / "cocobu_att" / f"{ix}.npz").read_bytes()))["feat"]
    att_feat = att_feat.reshape(-1, att_feat.shape[-1])
    box_feat = np.load(data / "cocobu_box" / f"{ix}.npy")
    x1, y1, x2, y2 = np.hsplit(box_feat, 4)
    box_feat = np.hstack((x1 / w, y1 / h, x2 / w, y2 / h, (x2 - x1) * (y2 - y1) / (w * h)))
    att_feat = np.hstack([att_feat, box_feat])
    att_feat = np.stack(sorted(att_feat, key=lambda x: x[-1], reverse=True))
    return np.load(data / "cocobu_fc" / f"{ix}.npy"), att_feat


def test_the_published_features_go_through_and_the_peers_loader_finds_them(shared: Path, tmp_path: Path) -> None:
    out, first, second = golden_through(FORM, shared, tmp_path, Options(ids="digits"))
    assert sorted(place.name for place in out.iterdir()) == ["cocobu_att", "cocobu_box", "cocobu_fc"]
    for key in first:
        number = str(int(key[-12:]))
        record, back = first[key], second[number]
        assert list(back.extra) == []
        assert back.size == record.size
        assert np.array_equal(back.features, record.features)
        assert np.array_equal(back.boxes, record.boxes)
        (height, width), box = record.size, record.boxes
        fc, att = loader_reads(out, number, height, width)
        np.testing.assert_allclose(fc, record.features.astype("f8").mean(0), atol=1e-5)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        order = np.argsort(-area / (width * height), kind="stable")
        assert np.array_equal(att[:, :2048], record.features[order])
        np.testing.assert_allclose(att[:, 2048], box[order, 0] / width, rtol=1e-6)


def test_keys_that_are_no_numbers_are_refused_and_so_are_two_with_the_same(shared: Path, tmp_path: Path) -> None:
    import_tsv(shared / "golden" / "train2014_obj36.tsv", tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        with pytest.raises(UsageError, match="--ids"):
            FORM.write(Records(store), tmp_path / "out", Options())
        (tmp_path / "ids.json").write_text("{" + ", ".join(f'"{key}": 7' for key in store) + "}")
        same = Options(ids=str(tmp_path / "ids.json"))
        with pytest.raises(UsageError, match="both become 7"):
            FORM.write(Records(store, same), tmp_path / "out", same)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Options]:
    folder = tmp_path_factory.mktemp("fuzz")
    return made(folder / "data", {"1": 1, "2": 2, "3": 3}), Options(sizes=told_sizes(folder))


@settings(max_examples=150)
@given(damage=DAMAGES, name=st.sampled_from(["cocobu_att/2.npz", "cocobu_box/1.npy"]))
def test_no_damage_makes_more_than_a_problem(small: tuple[Path, Options], damage: Damage, name: str) -> None:
    survives(FORM, small[0], small[0] / name, damage, small[1])
