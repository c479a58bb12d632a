"""Records drawn on their pictures. What is written is caught on its way to the canvas; no text is read back."""

from __future__ import annotations

import base64
import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.decode import decode
from featx.draw import draw, letters, save_png, sheet
from featx.draw.plates import area, leader, place
from featx.errors import UsageError
from featx.labels import region_name
from featx.record import Record
from featx.schema import Field, Schema, region_schema

RNG = np.random.default_rng(3)
LABELS = {"objects": ["yolk", "car,auto", "wheel"], "attributes": ["gray,grey", "red"]}


def record(boxes: Any, size: tuple[int, int], confs: Any = None, *, count: int = -1, **extra: Any) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    fields = {
        "object_ids": np.ones(n, np.int32),
        "object_confs": np.array(confs if confs is not None else np.linspace(0.9, 0.5, n), np.float32),
        "attribute_ids": np.ones(n, np.int32),
        "attribute_confs": np.full(n, 0.5, np.float32),
        **extra,
    }
    return Record(np.zeros((n, 1), np.float32), boxes, size, count, {k: v for k, v in fields.items() if v is not None})


def photo(height: int, width: int, value: int | None = None) -> np.ndarray:
    if value is None:
        return RNG.integers(0, 256, (height, width, 3), np.uint8)
    return np.full((height, width, 3), value, np.uint8)


def golden(shared: Path) -> list[tuple[str, Record, np.ndarray]]:
    """The published boxes of ten photos: 36 each."""
    csv.field_size_limit(1 << 24)
    rows = []
    with (shared / "golden/train2014_obj36.tsv").open() as file:
        for key, height, width, ids, confs, attributes, attribute_confs, _, boxes, _ in csv.reader(
            file, delimiter="\t"
        ):
            arrays = [
                np.frombuffer(base64.b64decode(text), kind)
                for text, kind in (
                    (boxes, np.float32), (ids, np.int64), (confs, np.float32),
                    (attributes, np.int64), (attribute_confs, np.float32),
                )
            ]  # fmt: skip
            made = record(
                arrays[0], (int(height), int(width)), arrays[2], object_ids=arrays[1].astype(np.int32),
                attribute_ids=arrays[3].astype(np.int32), attribute_confs=arrays[4],
            )  # fmt: skip
            rows.append((key, made, decode((shared / f"golden/images/{key}.jpg").read_bytes())))
    return rows


def vocabulary(shared: Path) -> dict[str, list[str]]:
    return {
        kind: (shared / f"vocab/vg_{kind}_vocab.txt").read_text().splitlines() for kind in ("objects", "attributes")
    }


@dataclass
class Written:
    """One text, its colour, the colour it stands on, and its height in pixels."""

    text: str
    ink: tuple[int, ...]
    ground: tuple[int, ...]
    height: int


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    calls: list[Written] = []
    write = letters.write

    def spy(canvas: np.ndarray, text: str, at: tuple[int, int], size: int, ink: Any, *, bold: bool = False) -> None:
        ground = canvas[at[1], at[0] - 2]
        calls.append(Written(text, tuple(map(int, ink)), tuple(map(int, ground)), size))
        write(canvas, text, at, size, ink, bold=bold)

    monkeypatch.setattr(letters, "write", spy)
    return calls


def texts(written: list[Written]) -> list[str]:
    return [one.text for one in written]


# --- labels ---------------------------------------------------------------------------------------------


def test_a_label_is_attribute_object_and_confidence(written: list[Written]) -> None:
    draw(photo(100, 100), record([10, 10, 50, 50], (100, 100), [0.934]), LABELS)
    assert "red car 0.93" in texts(written)


def test_without_names_the_ids_are_shown_and_without_ids_the_row(written: list[Written]) -> None:
    one = record([10, 10, 50, 50], (100, 100), [0.5])
    draw(photo(100, 100), one, None)
    assert "object 1 0.50" in texts(written)
    assert region_name(record([0, 0, 1, 1], (9, 9), object_ids=np.int32([1700])), 0, LABELS) == "red object 1700"
    assert region_name(record([0, 0, 1, 1], (9, 9), object_ids=np.int32([-1])), 0, LABELS) == "red object -1"
    bare = Record(np.zeros((2, 1), np.float32), np.float32([[0, 0, 5, 5], [5, 5, 9, 9]]), (10, 10))
    draw(photo(10, 10), bare, LABELS)
    assert {"region 0", "region 1"} <= set(texts(written))


def test_an_attribute_is_named_only_when_it_is_at_all_sure() -> None:
    for conf, name in ((0.09, "car"), (0.11, "red car")):
        assert region_name(record([0, 0, 1, 1], (9, 9), attribute_confs=np.float32([conf])), 0, LABELS) == name
    assert region_name(record([0, 0, 1, 1], (9, 9), attribute_confs=None), 0, LABELS) == "red car"
    assert region_name(record([0, 0, 1, 1], (9, 9), attribute_ids=None), 0, LABELS) == "car"
    assert region_name(record([0, 0, 1, 1], (9, 9)), 0, {"objects": ["a", "b"]}) == "b"


def test_the_surest_regions_are_drawn_and_padding_never(written: list[Written]) -> None:
    boxes = [[i * 10, 0, i * 10 + 9, 9] for i in range(6)]
    six = record(boxes, (60, 60), [0.1, 0.6, 0.3, 0.5, 0.99, 0.98], count=4, object_ids=np.arange(6, dtype=np.int32))
    draw(photo(60, 60), six, None, top=2)
    assert {t for t in texts(written) if t.startswith("object")} == {"object 1 0.60", "object 3 0.50"}
    assert any("2 of 4 boxes" in t for t in texts(written))
    written.clear()
    draw(photo(60, 60), six, None, min_conf=0.3)
    assert len([t for t in texts(written) if t.startswith("object")]) == 3


def test_every_label_of_the_published_photos_is_written(shared: Path, written: list[Written]) -> None:
    names = vocabulary(shared)
    for key, made, pixels in golden(shared):
        written.clear()
        draw(pixels, made, names, key=key)
        assert len(written) == 37
        assert texts(written)[-1].startswith(f"{key} | 36 of 36 boxes")
        assert all(one.height >= 16 for one in written)
        if key == "COCO_train2014_000000084002":
            assert {"bed 0.91", "metal headboard 0.91", "white pillow 0.81"} <= set(texts(written))


# --- legibility -----------------------------------------------------------------------------------------


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance of WCAG 2."""
    c = np.array(colour) / 255
    return float(np.dot(np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), (0.2126, 0.7152, 0.0722)))


def test_text_stands_out_from_its_plate_whatever_the_photo(written: list[Written]) -> None:
    boxes = RNG.uniform(0, 400, (60, 2))
    boxes = np.concatenate([boxes, boxes + RNG.uniform(5, 200, (60, 2))], 1)
    for value in (0, 128, 255, None):
        draw(photo(600, 600, value), record(boxes, (600, 600)), LABELS, top=60, note="a note", key="a key")
    assert len(written) == 4 * 62
    for one in written:
        light, dark = sorted((luminance(one.ink), luminance(one.ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, one  # level AA of WCAG 2


@pytest.mark.parametrize("value", [0, 16, 128, 245, 255])
def test_an_outline_is_seen_on_any_ground(value: int) -> None:
    canvas = draw(photo(1280, 1280, value), record([300, 300, 900, 900], (1280, 1280)), LABELS)
    across = canvas[600, 280:320].astype(int)  # over the left edge of the box
    bright, dark = across.max(axis=1), across.max(axis=1) < 40
    assert (np.ptp(across, axis=1) > 60).any()  # a colour, on a grey photo
    if value > 60:
        assert dark.any()  # with a dark rim
    assert bright.max() > 120


def test_the_boxes_of_one_picture_have_different_colours(written: list[Written]) -> None:
    boxes = [[i % 6 * 200, i // 6 * 200, i % 6 * 200 + 150, i // 6 * 200 + 150] for i in range(36)]
    draw(photo(1280, 1280), record(boxes, (1280, 1280)), LABELS)
    grounds = {one.ground for one in written[:36]}
    assert len(grounds) == 36
    apart = [np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(grounds, 2)]
    assert min(apart) > 20


def test_a_small_box_lies_over_a_large_one_whatever_their_order() -> None:
    large, small = [100, 100, 1100, 1100], [100, 500, 160, 560]  # the left edges coincide
    seen = []
    for boxes in ([large, small], [small, large]):
        canvas = draw(photo(1280, 1280, 90), record(boxes, (1280, 1280)), LABELS)
        seen.append((canvas[530, 100], canvas[900, 100]))
    for edge_of_small, edge_of_large in seen:
        assert not np.array_equal(edge_of_small, edge_of_large)


def test_labels_of_36_published_boxes_never_cover_each_other(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def spy(boxes: np.ndarray, sizes: Any, canvas: tuple[int, int]) -> np.ndarray:
        kept.append((place(boxes, sizes, canvas), canvas))
        return kept[-1][0]

    monkeypatch.setattr(sheet, "place", spy)
    names = vocabulary(shared)
    for key, made, pixels in golden(shared):
        draw(pixels, made, names)
        plates, canvas = kept[-1]
        assert len(plates) == 36
        for a, b in itertools.combinations(plates, 2):
            common = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            assert common.min() <= 0, key
        assert plates.min() >= 0
        assert (plates[:, 2:] <= canvas).all()


def test_plates_stay_on_the_canvas_even_when_there_is_no_room_for_all() -> None:
    boxes = np.tile([5.0, 5.0, 15.0, 15.0], (50, 1))
    plates = place(boxes, [(60, 20)] * 50, (100, 60))
    assert plates.min() >= 0
    assert (plates[:, 2:] <= (100, 60)).all()
    assert np.allclose(area(plates), 1200)


def test_a_plate_moves_away_from_a_small_box_and_a_line_leads_back() -> None:
    boxes = np.array([[100.0, 100.0, 110.0, 110.0], [100.0, 78.0, 160.0, 100.0]])
    plates = place(boxes, [(60, 20), (60, 20)], (400, 400))
    common = np.minimum(plates[0, 2:], boxes[1, 2:]) - np.maximum(plates[0, :2], boxes[1, :2])
    assert common.min() <= 0
    assert leader(np.array([0.0, 0.0, 10.0, 10.0]), np.array([0.0, 10.0, 50.0, 50.0])) is None
    assert leader(np.array([0.0, 0.0, 10.0, 10.0]), np.array([30.0, 5.0, 50.0, 50.0])) == ((30, 5), (10, 5))


# --- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((480, 640), (960, 1280)), ((80, 100), (640, 800)), ((1500, 2000), (1500, 2000)), ((1280, 700), (1280, 700))],
)
def test_small_photos_are_enlarged_and_large_ones_are_not(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    canvas = draw(photo(*size), record([1, 1, 50, 50], size), LABELS)
    assert canvas.shape[1] == drawn[1]
    assert drawn[0] < canvas.shape[0] < drawn[0] * 1.1  # the footer


def test_text_grows_with_the_picture(written: list[Written]) -> None:
    heights = []
    for side in (600, 1200, 3000, 6000):
        written.clear()
        draw(photo(side, side, 0), record([1, 1, 500, 500], (side, side)), LABELS)
        heights.append(written[0].height)
    assert heights[0] == heights[1] >= 16
    assert heights[1] < heights[2] < heights[3]
    assert heights[3] == pytest.approx(heights[2] * 2, rel=0.15)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (456, 123)])
def test_tiny_and_thin_pictures_are_drawn(size: tuple[int, int]) -> None:
    boxes = [[0, 0, size[1], size[0]], [0, 0, 0, 0], [size[1], size[0], size[1], size[0]]]
    canvas = draw(photo(*size), record(boxes, size), LABELS, key="a key", note="a note")
    assert canvas.dtype == np.uint8
    assert canvas.shape[1] >= 300


def test_the_picture_itself_is_left_alone_and_where_nothing_is_drawn_it_is_shown_exactly() -> None:
    pixels = photo(1300, 1300)
    before = pixels.copy()
    canvas = draw(pixels, record([100, 100, 200, 200], (1300, 1300)), LABELS)
    assert np.array_equal(pixels, before)
    assert np.array_equal(canvas[400:1300, 600:1300], pixels[400:, 600:])


def test_a_record_without_boxes_gives_the_picture_and_a_footer(written: list[Written]) -> None:
    draw(photo(50, 50), record(np.zeros((0, 4)), (50, 50)), LABELS, key="empty")
    assert texts(written) == ["empty | 0 of 0 boxes | 50 x 50 pixels"]


# --- which boxes, footer, errors ------------------------------------------------------------------------


def drawn_box(canvas: np.ndarray) -> tuple[int, int]:
    """Left and right edge of the only box on a 1280 x 1280 black photo, near row 1000."""
    columns = np.nonzero(canvas[1000].max(axis=1) > 100)[0]
    return int(columns.min()), int(columns.max())


def test_the_box_asked_for_is_drawn_and_named(written: list[Written]) -> None:
    own, other = [100, 100, 500, 1100], np.float32([[700, 100, 1200, 1100]])
    size, black = (1280, 1280), photo(1280, 1280, 0)
    both = record([own], size, regressed_boxes=other)
    schema = region_schema(1, boxes="proposal", pooled="proposal")
    for which, left, footer in (
        ("boxes", 100, "proposal boxes"),
        ("proposal", 100, "proposal boxes"),
        ("regressed", 700, "regressed boxes"),
    ):
        assert abs(drawn_box(draw(black, both, LABELS, which=which))[0] - left) <= 2
        assert footer in written[-1].text
    assert abs(drawn_box(draw(black, both, LABELS, which="pooled", schema=schema))[0] - 100) <= 2
    assert "proposal boxes, pooled" in written[-1].text
    turned = region_schema(1, boxes="regressed", pooled="proposal")
    swapped = record([own], size, proposal_boxes=other)
    assert abs(drawn_box(draw(black, swapped, LABELS, which="pooled", schema=turned))[0] - 700) <= 2
    assert abs(drawn_box(draw(black, swapped, LABELS, schema=turned))[0] - 100) <= 2
    assert "regressed boxes |" in written[-1].text


def test_grid_boxes_are_named_by_their_schema(written: list[Written]) -> None:
    bare = Record(np.zeros((1, 1), np.float32), np.float32([[0, 0, 10, 10]]), (10, 10))
    schema = Schema((Field("features", "float32", (1,)), Field("boxes", "float32", (4,))), "grid", "grid")
    for which in ("boxes", "pooled"):
        draw(photo(10, 10), bare, None, which=which, schema=schema)
        assert "grid boxes" in " ".join(texts(written))


def test_boxes_that_the_record_does_not_have_are_an_error() -> None:
    bare = record([0, 0, 5, 5], (10, 10))
    for which in ("proposal", "regressed", "pooled", "nonsense"):
        with pytest.raises(UsageError, match=which):
            draw(photo(10, 10), bare, LABELS, which=which)


def test_the_footer_names_key_count_size_and_note_and_wraps(written: list[Written]) -> None:
    note = "untrained network: its labels mean nothing " * 6
    draw(photo(400, 300), record([0, 0, 5, 5], (400, 300)), LABELS, key="folder/photo-1", note=note)
    footer = texts(written)[1:]
    assert footer[0].startswith("folder/photo-1 | 1 of 1 boxes")
    assert " ".join(footer).endswith(note.strip())
    assert len(footer) >= 3


def test_a_long_key_and_a_long_name_are_shortened_to_the_canvas(written: list[Written]) -> None:
    key, name = "folder/" * 80 + "photo-1", "supercalifragilistic" * 20
    canvas = draw(photo(400, 300), record([0, 0, 5, 5], (400, 300)), {"objects": ["", name, ""]}, key=key)
    assert len(written) == 3
    for one in written:
        assert letters.measure(one.text, one.height) <= canvas.shape[1]
    label, footer, _ = texts(written)
    assert label.startswith("super")
    assert label.endswith("0.90")
    assert footer.startswith("folder/")
    assert "photo-1" in footer


def test_a_picture_of_another_size_is_an_error_that_gives_both() -> None:
    with pytest.raises(UsageError, match=r"20 x 10, .* 30 x 10"):
        draw(photo(10, 20), record([0, 0, 5, 5], (10, 30)), LABELS)


# --- saving ---------------------------------------------------------------------------------------------


def test_a_saved_png_holds_exactly_the_pixels_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    pixels = photo(7, 5)
    save_png(tmp_path / "a.png", pixels)
    save_png(str(tmp_path / "a.png"), pixels[::-1])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels[::-1])
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_save_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(tmp_path / "a.png", photo(3, 3))
    before = (tmp_path / "a.png").read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UsageError, match="No space left"):
        save_png(tmp_path / "a.png", photo(4, 4))
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UsageError, match="cannot be written"):
        save_png(tmp_path / "no" / "b.png", photo(3, 3))
