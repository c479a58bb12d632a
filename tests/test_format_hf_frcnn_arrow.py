"""The Arrow stream of the LXMERT demo: columns as extracting_data.py declares them, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import UsageError
from featx.formats import Options, detect, get
from featx.formats.importer import import_items
from featx.schema import Array
from featx.store import open_store
from tests.foreign import import_tsv
from tests.lossless import SCHEMAS, export, make, read
from tests.test_formats_convert import make_store, sizes_of

pa = pytest.importorskip("pyarrow")
FORM = get("hf-frcnn-arrow")
SIZES = {"42": (480, 640), "7": (333, 500)}
RESIZED = [[800, 1067], [800, 1201]]
COLUMNS = {  # DEFAULT_SCHEMA of extracting_data.py, where MAX_DETECTIONS is 36
    "attr_ids": pa.list_(pa.float32(), 36),
    "attr_probs": pa.list_(pa.float32(), 36),
    "boxes": pa.list_(pa.list_(pa.float32())),
    "img_id": pa.int32(),
    "obj_ids": pa.list_(pa.float32(), 36),
    "obj_probs": pa.list_(pa.float32(), 36),
    "roi_features": pa.list_(pa.list_(pa.float32())),
    "sizes": pa.list_(pa.float32(), 2),
    "preds_per_image": pa.int32(),
}


def padded(array: Array, rows: int) -> Any:
    array = np.array(array)
    array[rows:] = 0
    return array.tolist()


def stream(path: Path, dim: int = 8, **changes: Any) -> Path:
    """Two pictures, the second with 30 regions."""
    rng, counts = np.random.default_rng(1), (36, 30)
    corners = [np.sort(rng.random((36, 2, 2), np.float32), axis=1).reshape(36, 4) for _ in counts]
    columns = {
        "attr_ids": [padded(rng.integers(0, 400, 36), n) for n in counts],
        "attr_probs": [padded(rng.random(36), n) for n in counts],
        "boxes": [padded(boxes, n) for boxes, n in zip(corners, counts, strict=True)],
        "img_id": [42, 7],
        "obj_ids": [padded(rng.integers(0, 1600, 36), n) for n in counts],
        "obj_probs": [padded(rng.random(36), n) for n in counts],
        "roi_features": [padded(rng.random((36, dim), np.float32), n) for n in counts],
        "sizes": RESIZED,
        "preds_per_image": list(counts),
    }
    columns |= changes
    made = pa.table({name: pa.array(columns[name], kind) for name, kind in COLUMNS.items()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, made.schema) as out:
        out.write_table(made)
    return path


@pytest.fixture
def told(tmp_path: Path) -> Options:
    path = tmp_path / "sizes.csv"
    path.write_text("".join(f"{key},{height},{width}\n" for key, (height, width) in SIZES.items()))
    return Options(sizes=str(path))


def test_a_stream_of_the_demo_is_read_with_the_sizes_that_are_told(tmp_path: Path, told: Options) -> None:
    path = stream(tmp_path / "x.datasets")
    assert detect(path) == [FORM]
    items, rows = read(FORM, path, told), pa.ipc.open_stream(path).read_all().to_pylist()
    assert [item.key for item in items] == ["42", "7"]
    for item, row in zip(items, rows, strict=True):
        record, count = item.record, row["preds_per_image"]
        assert record is not None, item.problem
        height, width = SIZES[item.key]
        assert (record.size, len(record.features)) == ((height, width), count)
        parts = np.float32(row["boxes"])[:count] * np.float32([width, height, width, height])
        np.testing.assert_allclose(record.boxes, parts, atol=1e-4)
        np.testing.assert_array_equal(record.features, np.float32(row["roi_features"])[:count])
        assert record.object_ids.tolist() == row["obj_ids"][:count]
        assert record.attribute_ids.dtype == np.int32
        np.testing.assert_array_equal(record.attribute_confs, np.float32(row["attr_probs"])[:count])
    import_items(FORM, path, tmp_path / "s", told)
    assert open_store(tmp_path / "s").schema.boxes == "regressed"
    assert [item.key for item in read(FORM, path, told, start=1)] == ["7"]


def test_without_sizes_there_are_no_pixels_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no sizes"):
        read(FORM, stream(tmp_path / "x"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sizes": [[1067, 800], RESIZED[1]]}, "another ratio"),
        ({"preds_per_image": [37, 30]}, "preds_per_image is 37"),
        ({"preds_per_image": [None, 30]}, "preds_per_image"),
        ({"obj_ids": [[0.5] * 36, [1.0] * 36]}, "no int32"),
        ({"img_id": [43, 7]}, "not among those"),
        ({"img_id": [None, 7]}, "key"),
    ],
)
def test_a_row_that_does_not_fit_is_told_and_the_other_kept(
    tmp_path: Path, told: Options, change: dict[str, Any], problem: str
) -> None:
    first, second = read(FORM, stream(tmp_path / "x", **change), told)
    assert first.record is None
    assert problem in first.problem
    assert second.record is not None


def test_what_we_write_has_the_columns_of_the_demo(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.arrow")
    with pa.ipc.open_stream(path) as reader:
        schema, rows = reader.schema, reader.read_all().to_pylist()
    assert {field.name: getattr(field.type, "storage_type", field.type) for field in schema} == COLUMNS
    assert list(COLUMNS) == schema.names
    assert [row["img_id"] for row in rows] == list(range(100, 112))
    for number, row in enumerate(rows):
        record = open_store(tmp_path / "s")[str(100 + number)]
        assert row["preds_per_image"] == 3
        assert row["boxes"][:4] == [[0, 0, 0.25, 0.25]] * 3 + [[0, 0, 0, 0]]
        assert row["obj_ids"] == [number % 9] * 3 + [0] * 33
        np.testing.assert_array_equal(np.float32(row["roi_features"])[:3], record.features)
        assert row["sizes"] == [667, 1333], "64 x 128: the longer side becomes 1333"


def test_datasets_reads_what_we_write_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    found = datasets.Dataset.from_file(str(export(FORM, make_store(tmp_path / "s"), tmp_path / "x.arrow")))
    assert found.features["roi_features"] == datasets.Array2D((36, 8), "float32")
    assert found.features["boxes"] == datasets.Array2D((36, 4), "float32")
    assert np.array(found[0:2]["roi_features"]).shape == (2, 36, 8)


def test_the_golden_file_comes_back_up_to_the_declared_loss(shared: Path, tmp_path: Path) -> None:
    import_tsv(shared / "golden" / "train2014_obj36.tsv", tmp_path / "s")
    path = export(FORM, tmp_path / "s", tmp_path / "x.arrow", Options(ids="digits"))
    first = open_store(tmp_path / "s")
    lines = (f"{key},{first[key].size[0]},{first[key].size[1]}\n" for key in first)
    (tmp_path / "sizes.csv").write_text("".join(lines))
    again = tmp_path / "again"
    import_items(FORM, path, again, Options(key="COCO_train2014_{:012d}", sizes=str(tmp_path / "sizes.csv")))
    second = open_store(again)
    assert list(second.keys("source")) == list(first.keys("source"))
    for key in first:
        for name in ("features", "object_ids", "object_confs", "attribute_ids", "attribute_confs"):
            np.testing.assert_array_equal(second[key].array(name), first[key].array(name))
        np.testing.assert_allclose(second[key].boxes, first[key].boxes, atol=1e-4)


def test_what_the_columns_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", 2, 37)
    with pytest.raises(UsageError, match="37 regions"):
        export(FORM, store, tmp_path / "x.arrow")
    with pytest.raises(UsageError, match="no object_confs"):
        export(FORM, make(tmp_path / "t", SCHEMAS["float32"]), tmp_path / "x.arrow")
    assert not (tmp_path / "x.arrow").exists()


def test_the_size_of_a_picture_is_read_from_what_the_command_takes(tmp_path: Path) -> None:
    path = export(FORM, make_store(tmp_path / "s"), tmp_path / "x.arrow")
    items = read(FORM, path, Options(sizes=str(sizes_of(tmp_path / "sizes.json"))))
    assert all(item.record and item.record.size == (64, 128) for item in items)
