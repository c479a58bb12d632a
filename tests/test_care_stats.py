"""Statistics against numpy on all records at once; charts by their pixels; pages of stores of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featx.care import chart, diff, stats
from featx.care.diff_page import diff_page
from featx.care.places import CELLS, Places
from featx.care.stats_page import stats_page
from featx.cli import main
from featx.record import Record
from featx.schema import Field, Schema, region_schema
from featx.store import create_store, open_part

DIM, RECORDS = 24, 15


def records() -> list[Record]:
    """Of 1 to 7 regions in 8 rows; dimension 3 is dead, 5 constant, one class without a name, one box without area."""
    made = []
    for n in range(RECORDS):
        rng = np.random.default_rng(n)
        count, (height, width) = 1 + n % 7, [(100, 200), (300, 150)][n % 2]
        features, boxes = np.zeros((8, DIM), np.float32), np.zeros((8, 4), np.float32)
        features[:count] = np.maximum(rng.normal(size=(count, DIM)), 0)
        features[:count, 3], features[:count, 5] = 0, 2
        corners = np.sort(rng.random((count, 2, 2)), axis=1) * [width, height]
        boxes[:count] = corners.reshape(count, 4)
        if n == 4:
            boxes[0, 2:] = boxes[0, :2]
        ids = np.zeros(8, np.int32)
        ids[:count] = rng.integers(0, 3, count)
        if n == 6:
            ids[0] = 7
        extra = {
            "object_ids": ids, "object_confs": rng.random(8).astype(np.float32),
            "attribute_ids": np.zeros(8, np.int32), "attribute_confs": np.zeros(8, np.float32),
        }  # fmt: skip
        made.append(Record(features, boxes, (height, width), count, extra))
    return made


LABELS = {"objects": ["red car,automobile", "tree", "sky"], "attributes": ["wet", "old"]}


def store(path: Path, made: list[Record], schema: Schema | None = None, labels: Any = LABELS) -> Path:
    create_store(path, "lmdb", schema or region_schema(DIM, "float32", rows=8), {"profile": {"name": "p"}}, labels)
    with open_part(path) as writer:
        for ordinal, one in enumerate(made):
            writer.put(f"k{ordinal:02d}", one, ordinal)
        writer.finish()
    return path


def test_the_figures_are_those_of_all_regions_at_once(tmp_path: Path) -> None:
    made = records()
    found = stats(store(tmp_path / "s", made))
    features = np.concatenate([one.features[: one.count] for one in made])
    boxes = np.concatenate([one.boxes[: one.count] for one in made])
    assert (found.records, found.regions) == (RECORDS, len(features))
    assert found.counts == {n: sum(one.count == n for one in made) for n in range(1, 8)}
    assert found.zero_share == pytest.approx((features == 0).mean())
    assert found.values.mean == pytest.approx(features.mean(), rel=1e-6)
    assert found.norms.most == pytest.approx(np.linalg.norm(features, axis=1).max(), rel=1e-6)
    assert found.dimensions.dead == [3]
    assert found.dimensions.constant == [5]
    assert found.dimensions.mean == pytest.approx(features.mean(axis=0))
    assert found.dimensions.deviation == pytest.approx(features.std(axis=0), abs=1e-6)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert found.widths.most == pytest.approx(sides[:, 0].max())
    assert found.heights.mean == pytest.approx(sides[:, 1].mean(), rel=1e-5)
    assert found.sizes == {(100, 200): 8, (300, 150): 7}
    assert (found.flat, found.outside) == (1, 0)


def test_classes_have_names_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    made = records()
    found = stats(store(tmp_path / "s", made))
    ids = np.concatenate([one.extra["object_ids"][: one.count] for one in made])
    names = ["red car", "tree", "sky"]
    assert dict(found.classes["object_ids"].top(9)) == {name: int((ids == n).sum()) for n, name in enumerate(names)}
    assert found.classes["object_ids"].unknown == 1
    assert found.notes() == [
        "1 of 24 dimensions are always 0", "1 dimensions never change", "1 boxes have no area",
        "1 object_ids are of no known class", "all attribute_ids are 0",
    ]  # fmt: skip


def test_the_map_of_places_counts_the_boxes_over_each_cell() -> None:
    rng = np.random.default_rng(2)
    corners = np.sort(rng.random((40, 2, 2)) * 1.1 - 0.05, axis=1)
    boxes = corners.reshape(40, 4)
    places = Places()
    places.add(boxes[:25])
    places.add(boxes[25:])
    grid = np.zeros((CELLS, CELLS))
    for x0, y0, x1, y1 in np.clip(boxes, 0, 1):
        for row in range(CELLS):
            for column in range(CELLS):
                over = y0 < (row + 1) / CELLS and y1 > row / CELLS and x0 < (column + 1) / CELLS and x1 > column / CELLS
                grid[row, column] += over
    assert places.grid() == pytest.approx(grid / 40)


def test_a_sample_and_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = records()
    path = store(tmp_path / "s", made)
    assert stats(path, sample="4").records == 4
    assert stats(path, sample="4", seed=1).regions != stats(path, sample="4", seed=3).regions
    file = next(path.rglob("*.lmdb"))
    content = bytearray(file.read_bytes())
    content[content.index(made[6].features.tobytes()) + 2] ^= 1
    file.write_bytes(content)
    found = stats(path)
    assert (found.records, len(found.damaged)) == (RECORDS - 1, 1)
    assert main(["stats", str(path), "--quiet"]) == 4
    assert "1 damaged" in capsys.readouterr().out


def test_round_numbers_for_an_axis() -> None:
    assert chart.round_steps(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert chart.round_steps(0.13, 0.52, 4) == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert chart.round_steps(3, 3, 4) == [3]
    assert [chart.short(value) for value in (0.25, 40, 1234, 2.5e6)] == ["0.25", "40", "1.23k", "2.5M"]


def test_bars_of_a_histogram_are_as_high_as_their_counts() -> None:
    canvas = chart.page(400, 300)
    area = chart.Area(canvas, 0, 20, 400, 300)
    chart.histogram(area, [0, 1, 2, 3, 4], np.array([4, 2, 0, 1]), chart.BLUE)
    heights = [int((canvas[:, x] == chart.BLUE).all(axis=1).sum()) for x in (50, 150, 250, 350)]
    assert heights[2] == 0
    assert heights[1] == pytest.approx(heights[0] / 2, abs=1)
    assert heights[3] == pytest.approx(heights[0] / 4, abs=1)


def test_the_brightest_spot_of_the_map_is_where_most_boxes_are() -> None:
    canvas = chart.page(600, 500)
    grid = np.zeros((CELLS, CELLS))
    grid[10:14, 30:34] = 1
    chart.heat(chart.Area(canvas, 0, 20, 600, 500), grid)
    light = cv2.GaussianBlur(canvas[20:, :480].astype(np.float32).sum(axis=2), (0, 0), 9)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert y / 480 == pytest.approx(12 / CELLS, abs=0.04)
    assert (x - 5) / 480 == pytest.approx(32 / CELLS, abs=0.04)


def shown(canvas: np.ndarray[Any, Any]) -> None:
    """A page that has something on it, of the width that all have."""
    assert canvas.dtype == np.uint8
    assert canvas.shape[1:] == (1920, 3)
    assert canvas[200:].std() > 5


def test_stores_of_every_kind_have_a_page(tmp_path: Path) -> None:
    plain = Schema((Field("features", "bfloat16", (DIM,)), Field("boxes", "float32", (4,))))
    one = Record(np.ones((1, DIM), np.float32), np.array([[0, 0, 5, 6]], np.float32), (6, 5))
    none = Record(np.zeros((0, DIM), np.float32), np.zeros((0, 4), np.float32), (6, 5))
    for name, path in {
        "full": store(tmp_path / "full", records()),
        "without ids": store(tmp_path / "plain", [one, one], plain, {}),
        "one record": store(tmp_path / "one", [one], plain, {}),
        "no region": store(tmp_path / "no", [none], plain, {}),
        "empty": store(tmp_path / "empty", [], plain, {}),
        "long names": store(tmp_path / ("name" * 40), records(), labels={"objects": ["word " * 30] * 3}),
    }.items():
        found = stats(path)
        shown(stats_page(found))
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["records"] == found.records, name


def test_pairs_of_every_kind_have_a_page(tmp_path: Path) -> None:
    made = records()
    moved = [Record(one.features * 1.01, one.boxes, one.size, one.count, one.extra) for one in made]
    a, b = store(tmp_path / "a", made), store(tmp_path / "b", moved)
    empty = store(tmp_path / "e", [])
    for first, second in ((a, b), (a, a), (a, empty), (empty, empty)):
        found = diff(first, second)
        shown(diff_page(found))
        json.dumps(found.to_dict(), allow_nan=False)


def test_the_commands_write_their_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = store(tmp_path / "a", records())
    assert main(["stats", str(a), "--picture", str(tmp_path / "s.png")]) == 0
    said = capsys.readouterr()
    assert "red car" in said.out
    assert "note: all attribute_ids are 0" in said.out
    shown(cv2.imread(str(tmp_path / "s.png")))
    assert main(["stats", str(a), "--json", "--sample", "20%"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 3
    assert main(["diff", str(a), str(a), "--picture", str(tmp_path / "d.png")]) == 0
    shown(cv2.imread(str(tmp_path / "d.png")))
    assert main(["stats", str(a), "--picture", str(tmp_path / "s.jpg")]) == 2
    assert main(["stats", str(tmp_path / "none")]) == 4
