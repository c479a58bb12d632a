"""UNITER's folder of npz: as its script leaves it, and back to its own converter; what all such folders have in common
is in test_picture_folder.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.formats import Options, Records, get
from featx.schema import Array
from featx.store import open_store
from tests.picture_files import (
    DAMAGES,
    SIZE,
    Damage,
    all_read,
    corners,
    folder_of,
    golden_through,
    npy,
    npz,
    of,
    read,
    second_is_told,
    sizes_are_needed,
    survives,
    told_sizes,
)
from tests.test_formats_convert import make_store

FORM = get("uniter-npz")


def dump(seed: int, rows: int = 3, dim: int = 8) -> dict[str, Array]:
    """The arrays of generate_npz.py: float16, rows by falling confidence."""
    rng = np.random.default_rng(seed)
    box = corners(rng, rows)
    return {
        "norm_bb": np.concatenate([box, box[:, 2:] - box[:, :2]], 1).astype("<f2"),
        "features": rng.random((rows, dim)).astype("<f2"),
        "conf": np.sort(rng.random((rows, 1)), axis=0)[::-1].astype("<f2"),
        "soft_labels": rng.random((rows, 5)).astype("<f2"),
    }


def packed(values: dict[str, Array]) -> bytes:
    return npz({name: of(array) for name, array in values.items()})


@pytest.fixture
def told(tmp_path: Path) -> Options:
    return Options(sizes=told_sizes(tmp_path))


def test_what_the_script_writes_is_read_in_the_order_of_the_names(tmp_path: Path, told: Options) -> None:
    path = folder_of(tmp_path / "f", {"b.npz": packed(dump(1)), "a.npz": packed(dump(2, 5)), "notes.txt": b"x"})
    records = all_read(FORM, path, told, "a.npz", "b.npz")
    for record, values in zip(records, (dump(2, 5), dump(1)), strict=True):
        assert record.size == SIZE
        assert record.features.dtype == np.float16
        assert np.array_equal(record.features, values["features"])
        assert np.array_equal(record.boxes, values["norm_bb"][:, :4].astype("f4") * np.float32([120, 90, 120, 90]))
        assert np.array_equal(record.object_confs, values["conf"][:, 0].astype("f4"))
        assert np.array_equal(record.class_probs, values["soft_labels"])


def test_the_bytes_of_a_file_are_what_numpy_documents(tmp_path: Path, told: Options) -> None:
    """One region, every value written out: 0.5 is 0x3800 in float16, 1.0 is 0x3C00, 0.25 is 0x3400."""
    file = npz(
        {
            "norm_bb": npy("<f2", (1, 6), bytes.fromhex("0034 0038 0038 003C 0034 0038")),
            "features": npy("<f2", (1, 2), bytes.fromhex("003C 00C0")),
            "conf": npy("<f2", (1, 1), bytes.fromhex("0038")),
        }
    )
    [item] = read(FORM, folder_of(tmp_path / "f", {"a.npz": file}), told)
    assert item.record is not None
    assert item.record.boxes.tolist() == [[30, 45, 60, 90]]
    assert item.record.features.tolist() == [[1, -2]]
    assert item.record.object_confs.tolist() == [0.5]


def test_without_sizes_nothing_can_be_read_and_a_missing_one_is_a_problem(tmp_path: Path, told: Options) -> None:
    path = folder_of(tmp_path / "f", {"a.npz": packed(dump(1)), "unknown.npz": packed(dump(2))})
    sizes_are_needed(FORM, path, told, "unknown")


BAD: dict[str, tuple[bytes, str]] = {
    "the stub of a picture that failed": (npz({"num_boxes": npy("<i8", (), bytes(8))}), "no norm_bb and no features"),
    "other rows": (packed(dump(1) | {"norm_bb": dump(1, 4)["norm_bb"]}), "norm_bb has shape"),
    "a file that was cut": (packed(dump(1))[:-40], "zip"),
    "nothing": (b"", "zip"),
    "pickles": (npz({"norm_bb": npy("|O", (), b"."), "features": of(dump(1)["features"])}), "Object arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_and_the_rest_is_read(tmp_path: Path, told: Options, case: str) -> None:
    spoilt, said = BAD[case]
    path = folder_of(tmp_path / "f", {"a.npz": packed(dump(1)), "b.npz": spoilt, "c.npz": packed(dump(2))})
    assert FORM.detect(path)
    second_is_told(FORM, path, told, "abc", said)


def load_npz(conf_th: float, max_bb: int, min_bb: int, fname: Path) -> tuple[dict[str, Array], int]:
    """As load_npz and compute_nbb of UNITER's scripts/convert_imgdir.py read such a file."""
    with np.load(fname, allow_pickle=True) as img_dat:
        dump = {name: img_dat[name] for name in img_dat.files}
    nbb = int(min(max_bb, max(min_bb, int((dump["conf"] > conf_th).sum()))))
    return {name: array[:nbb].astype(np.float16) for name, array in dump.items()}, nbb


def test_the_published_features_go_through_and_the_peers_converter_reads_them(shared: Path, tmp_path: Path) -> None:
    out, first, second = golden_through(FORM, shared, tmp_path)
    for key in first:
        record, back = first[key], second[key]
        order = np.argsort(-record.object_confs, kind="stable")
        boxes, (height, width) = record.boxes[order], record.size
        assert np.array_equal(back.features, record.features[order].astype("f2"))
        assert (np.abs(back.boxes - boxes) <= np.float32([width, height, width, height]) / 4096 + 1e-3).all()
        assert np.abs(back.object_confs - record.object_confs[order]).max() <= 1 / 4096
        peer, nbb = load_npz(0.2, 100, 10, out / f"{key}.npz")
        assert nbb == max(10, int((record.object_confs.astype("f2") > 0.2).sum()))
        assert (np.diff(peer["conf"][:, 0].astype("f4")) <= 0).all()
        assert np.array_equal(peer["features"], record.features[order[:nbb]].astype("f2"))
        sides = (boxes[:, 2:] - boxes[:, :2])[:nbb] / np.float32([width, height])
        assert np.abs(peer["norm_bb"][:, 4:].astype("f4") - sides).max() <= 1 / 4096 + 1e-6


def test_class_probs_are_soft_labels_and_a_store_without_confidences_is_refused(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path / "s", 3)) as store:
        assert FORM.write(Records(store), tmp_path / "out", Options()) == 3
    with np.load(tmp_path / "out" / "100.npz") as found:
        assert sorted(found.files) == ["conf", "features", "norm_bb"]
        third, two = np.float16(1 / 3), np.float16(2 / 3)  # the boxes are three columns of the picture
        assert np.array_equal(found["norm_bb"], [[0, 0, third, 1, third, 1], [third, 0, two, 1, third, 1],
                                                 [two, 0, 1, 1, third, 1]])  # fmt: skip
        assert found["conf"].shape == (3, 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Options]:
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder_of(folder / "f", {f"{n}.npz": packed(dump(n, 2, 40)) for n in range(3)})
    return path, Options(sizes=told_sizes(folder))


@settings(max_examples=150)
@given(damage=DAMAGES, number=st.integers(0, 2))
def test_no_damage_makes_more_than_a_problem(small: tuple[Path, Any], damage: Damage, number: int) -> None:
    survives(FORM, small[0], small[0] / f"{number}.npz", damage, small[1])
