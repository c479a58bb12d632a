"""The TSV of bottom-up attention, in and out; its own reader, transcribed, reads what is written."""

from __future__ import annotations

import base64
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from featx.errors import UsageError
from featx.formats import Item, Options, Records, detect, get
from featx.formats.importer import import_items
from featx.schema import Array
from featx.store import StoreReader, open_store
from tests.foreign import import_tsv
from tests.lossless import damaged, damages

FORM = get("butd-tsv")
COLUMNS = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"]


def coded(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode()


def row(number: int, rows: int = 3, dim: int = 5, **changes: Any) -> dict[str, Any]:
    """One picture as get_detections_from_im of generate_tsv.py returns it: 120 wide and 90 high."""
    rng = np.random.default_rng(number)
    boxes = np.sort(rng.random((rows, 2, 2), np.float32), axis=1).reshape(rows, 4) * np.float32([120, 90, 120, 90])
    made = {
        "image_id": number, "image_h": 90, "image_w": 120, "num_boxes": rows,
        "boxes": coded(boxes), "features": coded(rng.random((rows, dim), np.float32)),
    }  # fmt: skip
    return {**made, **changes}


def tsv(*rows: dict[str, Any], columns: list[str] = COLUMNS) -> bytes:
    """As generate_tsv.py writes: csv.DictWriter with tabs, no header."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, delimiter="\t").writerows(rows)
    return text.getvalue().encode()


def peer_reads(path: Path) -> list[dict[str, Any]]:
    """tools/read_tsv.py, in Python 3."""
    csv.field_size_limit(sys.maxsize)
    in_data = []
    with path.open("r", newline="") as tsv_in_file:
        reader = csv.DictReader(tsv_in_file, delimiter="\t", fieldnames=COLUMNS)
        for item in reader:
            item["image_id"] = int(item["image_id"])
            item["image_h"] = int(item["image_h"])
            item["image_w"] = int(item["image_w"])
            item["num_boxes"] = int(item["num_boxes"])
            for field in ["boxes", "features"]:
                item[field] = np.frombuffer(base64.decodebytes(item[field].encode()), np.float32).reshape(
                    (item["num_boxes"], -1)
                )
            in_data.append(item)
    return in_data


def read(path: Path, start: int = 0, **options: Any) -> list[Item]:
    return list(FORM.read(path, Options(**options), start))


def test_the_columns_are_read_width_first(tmp_path: Path) -> None:
    path = tmp_path / "trainval.tsv"
    path.write_bytes(tsv(row(42), row(7, 1), row(9, 0)))
    assert detect(path) == [FORM]
    items = read(path, key="COCO_val2014_{:012d}")
    assert [item.key for item in items] == [f"COCO_val2014_{number:012d}" for number in (42, 7, 9)]
    record = items[0].record
    assert record is not None
    assert record.size == (90, 120)
    assert coded(record.features) == row(42)["features"]
    assert coded(record.boxes) == row(42)["boxes"]
    assert [len(item.record or ()) for item in items] == [3, 1, 0]
    assert [item.place for item in items][1] == f"byte {len(tsv(row(42)))}"
    assert read(path, 1, key="COCO_val2014_{:012d}") == items[1:]


def test_the_seventh_column_is_the_probabilities_of_the_classes(tmp_path: Path) -> None:
    probs = np.random.default_rng(1).random((3, 4), np.float32)
    (tmp_path / "a.tsv").write_bytes(tsv(row(5, cls_prob=coded(probs)), columns=[*COLUMNS, "cls_prob"]))
    assert detect(tmp_path / "a.tsv") == [FORM]
    import_items(FORM, tmp_path / "a.tsv", tmp_path / "s")
    with open_store(tmp_path / "s") as store:
        np.testing.assert_array_equal(store["5"].class_probs, probs)
        FORM.write(Records(store), tmp_path / "again.tsv", Options())
    assert (tmp_path / "again.tsv").read_bytes() == (tmp_path / "a.tsv").read_bytes()


BAD = {
    "cut": (tsv(row(2))[:-40], "it is cut"),
    "a column missing": (b"\t".join(tsv(row(2)).split(b"\t")[:5]) + b"\r\n", "5 columns"),
    "other boxes": (tsv(row(2, num_boxes=4)), "num_boxes says 4"),
    "no base64": (tsv(row(2, features="?" * 80)), "features"),
    "features that make no rows": (tsv(row(2, features=coded(np.zeros(7, np.float32)))), "7 numbers"),
    "height and width changed for one another": (
        tsv(row(2, image_h=120, image_w=90, boxes=coded(np.float32([[0, 0, 119, 80]] * 3)))), "height and width are"
    ),
    "a height that is none": (tsv(row(2, image_h="tall")), "tall"),
    "a height of 400 digits": (tsv(row(2, image_h="9" * 400)), "image_h is b'999"),
    "as many boxes as 400 digits say": (tsv(row(2, num_boxes="9" * 400)), "num_boxes is b'999"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_told_with_its_byte_and_the_rest_is_kept(tmp_path: Path, name: str) -> None:
    bad, said = BAD[name]
    last = b"" if name == "cut" else tsv(row(3))
    (tmp_path / "a.tsv").write_bytes(tsv(row(1)) + bad + last)
    items = read(tmp_path / "a.tsv")
    assert [item.record is not None for item in items] == [True, False, *([True] if last else [])]
    assert said in items[1].problem
    assert items[1].place == f"byte {len(tsv(row(1)))}"


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages())
def test_no_damage_does_anything_but_problems(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(damaged(tsv(row(1), row(2, 0), row(3)), damage))
    detect(path)
    items = read(path)
    assert all((item.record is None) == bool(item.problem) for item in items)
    assert [item.number for item in items] == list(range(len(items)))


@pytest.fixture(scope="module")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    store = tmp_path_factory.mktemp("golden") / "s"
    import_tsv(shared / "golden" / "train2014_obj36.tsv", store)
    return open_store(store)


def test_the_published_features_go_through_and_the_peers_reader_finds_them(golden: StoreReader, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    assert FORM.write(Records(golden, Options(ids="digits")), out, Options(ids="digits")) == 10
    for item, key in zip(peer_reads(out), golden.keys("source"), strict=True):
        record = golden[key]
        assert f"COCO_train2014_{item['image_id']:012d}" == key
        assert (item["image_h"], item["image_w"]) == record.size
        np.testing.assert_array_equal(item["features"], record.features)
        np.testing.assert_array_equal(item["boxes"], record.boxes)
    import_items(FORM, out, tmp_path / "s", Options(key="COCO_train2014_{:012d}"))
    with open_store(tmp_path / "s") as again:
        for key in golden:
            np.testing.assert_array_equal(again[key].features, golden[key].features)
            np.testing.assert_array_equal(again[key].boxes, golden[key].boxes)
            assert again[key].size == golden[key].size


def test_keys_that_are_no_numbers_are_refused_before_anything_is_written(golden: StoreReader, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no number by the rule --ids key"):
        FORM.write(Records(golden), tmp_path / "out.tsv", Options())
    assert not list(tmp_path.iterdir())
