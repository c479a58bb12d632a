"""Statistics against numpy on all records at once; charts by their pixels; pages of stores of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featx.care import Diff, Statistics, chart, diff, stats
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
        "dimensions that are always 0: 1 of 24", "dimensions that never change: 1", "boxes without area: 1",
        "object_ids of no known class: 1", "all attribute_ids are 0",
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
    said = capsys.readouterr().out
    assert "damaged records, left out: 1;" in said
    assert "a sample of" not in said, "all were read"
    assert main(["stats", str(path), "--quiet", "--sample", "3"]) in (0, 4)
    assert "(a sample of 15)" in capsys.readouterr().out


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


Rectangle = tuple[slice, slice]
THIRDS = [slice(24 + n * 632, 24 + n * 632 + 608) for n in range(3)]


def rows(*heights: int, top: int, gap: int = 24) -> list[Rectangle]:
    """Where three cards of each row lie."""
    tops = [top + sum(heights[:n]) + gap * n for n in range(len(heights))]
    return [(slice(y, y + height), third) for y, height in zip(tops, heights, strict=True) for third in THIRDS]


STATS_CARDS = rows(330, 420, 560, 330, top=150)


def chart_of(canvas: Any, card: Rectangle) -> Any:
    """A card without its title."""
    return canvas[card[0].start + 60 : card[0].stop, card[1]]


def drawn(canvas: Any, blank: Any, cards: list[Rectangle]) -> list[bool]:
    """Whether the chart of each card has other pixels than that of the page of nothing."""
    assert canvas.dtype == np.uint8
    assert canvas.shape[1:] == (1920, 3)
    return [not np.array_equal(chart_of(canvas, card), chart_of(blank, card)) for card in cards]


def test_stores_of_every_kind_have_a_page(tmp_path: Path) -> None:
    plain = Schema((Field("features", "bfloat16", (DIM,)), Field("boxes", "float32", (4,))))
    one = Record(np.ones((1, DIM), np.float32), np.array([[0, 0, 5, 6]], np.float32), (6, 5))
    none = Record(np.zeros((0, DIM), np.float32), np.zeros((0, 4), np.float32), (6, 5))
    blank = stats_page(Statistics("nothing"))
    # The charts that differ from those of nothing: features, norms, dimensions; places, sizes, sides; classes; numbers.
    full, ids = [True] * 12, [False] * 3
    for name, path, expected in (
        ("full", store(tmp_path / "full", records()), full),
        ("without ids", store(tmp_path / "plain", [one, one], plain, {}), full[:6] + ids + full[9:]),
        ("one record", store(tmp_path / "one", [one], plain, {}), full[:6] + ids + full[9:]),
        ("no region", store(tmp_path / "no", [none], plain, {}), [False] * 9 + [True, True, False]),
        ("empty", store(tmp_path / "empty", [], plain, {}), [False] * 12),
        ("long names", store(tmp_path / ("name" * 40), records(), labels={"objects": ["word " * 30] * 3}), full),
    ):
        found = stats(path)
        assert drawn(stats_page(found), blank, STATS_CARDS) == expected, name
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["records"] == found.records, name
    assert (blank[150:480, 24:632] != chart.GROUND).any(), "a card is a card without content, too"


def test_what_is_as_large_as_can_be_is_in_its_chart(tmp_path: Path) -> None:
    """Boxes that are the whole picture, and confidences of 1, belong to the last bar."""
    schema = Schema(
        (Field("features", "float32", (DIM,)), Field("boxes", "float32", (4,)), Field("object_confs", "float32"))
    )
    box, confs = np.array([[0, 0, 5, 6]], np.float32), {"object_confs": np.ones(1, np.float32)}
    whole = Record(np.ones((1, DIM), np.float32), box, (6, 5), 1, confs)
    canvas = stats_page(stats(store(tmp_path / "s", [whole], schema, {})))
    size, confidence = chart_of(canvas, STATS_CARDS[4]), chart_of(canvas, STATS_CARDS[8])
    assert (size[:180, -40:] == chart.ROSE).all(axis=2).sum() > 200
    assert (confidence[:, -40:] == chart.BLUE).all(axis=2).sum() > 200


def diff_cards(canvas: Any) -> list[Rectangle]:
    """The cards of a page of differences without a step: the steps, two rows of three, the worst pictures."""
    wide = slice(24, 1896)
    last = 190 + 158 + 2 * 330 + 3 * 24
    return [(slice(190, 348), wide), *rows(330, 330, top=372), (slice(last, len(canvas) - 24), wide)]


def test_pairs_of_every_kind_have_a_page(tmp_path: Path) -> None:
    made = records()
    moved = [Record(one.features * 1.01, one.boxes + 0.3, one.size, one.count, one.extra) for one in made]
    a, b = store(tmp_path / "a", made), store(tmp_path / "b", moved)
    empty = store(tmp_path / "e", [])
    blank = diff_page(Diff("nothing", "none"))
    for first, second, expected in ((a, a, True), (a, empty, False), (empty, empty, False)):
        found = diff(first, second)
        canvas = diff_page(found)
        assert drawn(canvas, blank, diff_cards(blank)) == [expected] * 8
        json.dumps(found.to_dict(), allow_nan=False)
    found = diff(a, b)
    canvas, steps = diff_page(found), 90 + 68 * len(found.hints)
    for card, there in zip(diff_cards(blank)[1:7], rows(330, 330, top=190 + steps + 24), strict=True):
        assert not np.array_equal(chart_of(canvas, there), chart_of(blank, card))


def test_charts_of_equal_stores_say_that_all_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    real = chart.paragraph

    def paragraph(area: chart.Area, lines: Any, *more: Any) -> int:
        said.extend(lines)
        return real(area, lines, *more)

    monkeypatch.setattr(chart, "paragraph", paragraph)
    a, empty = store(tmp_path / "a", records()), store(tmp_path / "e", [])
    diff_page(diff(a, a))
    assert said == [
        "none: every picture that was compared is the same in both", "the boxes of all 57 regions are the same",
        "the features of all 57 regions have one direction", "the features of all 57 regions are the same",
        "the features of all 15 pictures are the same", "the boxes of all 15 pictures are the same",
        "all 15 pictures that were compared are the same in both",
    ]  # fmt: skip
    said.clear()
    diff_page(diff(a, empty))
    assert set(said) == {"nothing to compare"}
    plain = Schema((Field("features", "float32", (DIM,)), Field("boxes", "float32", (4,))))
    far = Record(np.ones((1, DIM), np.float32), np.array([[0, 0, 1, 1]], np.float32), (6, 5))
    near = Record(np.ones((1, DIM), np.float32), np.array([[3, 4, 5, 6]], np.float32), (6, 5))
    said.clear()
    diff_page(diff(store(tmp_path / "f", [far], plain, {}), store(tmp_path / "n", [near], plain, {})))
    assert said.count("nothing to compare") == 6, "no region is in both"


def test_the_commands_write_their_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = store(tmp_path / "a", records())
    assert main(["stats", str(a), "--picture", str(tmp_path / "s.png")]) == 0
    said = capsys.readouterr()
    assert "red car" in said.out
    assert "note: all attribute_ids are 0" in said.out
    page = cv2.cvtColor(cv2.imread(str(tmp_path / "s.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(page, stats_page(stats(a)))
    assert main(["stats", str(a), "--json", "--sample", "20%"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 3
    assert main(["diff", str(a), str(a), "--picture", str(tmp_path / "d.png")]) == 0
    page = cv2.cvtColor(cv2.imread(str(tmp_path / "d.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(page, diff_page(diff(a, a)))
    assert main(["stats", str(a), "--picture", str(tmp_path / "s.jpg")]) == 2
    assert main(["stats", str(tmp_path / "none")]) == 4
