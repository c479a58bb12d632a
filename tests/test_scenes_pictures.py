"""Drawn pictures: what is where, what hides what, and what a camera makes of it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from featx.scenes.camera import photograph
from featx.scenes.figure import FINE, Figure
from featx.scenes.layout import lay_out
from featx.scenes.paint import Light, paint
from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES, Box, Scene, Thing, stream

LIGHT = Light(-0.6, -0.8)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [lay_out(21, "val", index) for index in range(200)]


def drawn_box(thing: Thing) -> Box:
    """The tight box of a thing's own pixels in the picture."""
    _, cover = paint(thing, LIGHT, np.random.default_rng(0))
    rows, columns = np.nonzero(cover[..., 0] >= 0.5)
    return Box(
        thing.left + int(columns.min()), thing.top + int(rows.min()),
        thing.left + int(columns.max()) + 1, thing.top + int(rows.max()) + 1,
    )  # fmt: skip


def test_boxes_are_tight_on_what_is_visible(scenes: list[Scene]) -> None:
    """Painting numbers instead of colours, from the farthest thing to the nearest, must show the same boxes."""
    for scene in scenes[:40]:
        numbers = np.zeros((scene.height, scene.width), int)
        for k, thing in enumerate(scene.things, 1):
            _, cover = paint(thing, LIGHT, np.random.default_rng(0))
            high, wide = cover.shape[:2]
            patch = numbers[thing.top : thing.top + high, thing.left : thing.left + wide]
            patch[cover[..., 0] >= 0.5] = k
        for k, thing in enumerate(scene.things, 1):
            rows, columns = np.nonzero(numbers == k)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert all(
                abs(a - b) <= 1 for a, b in zip(box, thing.box, strict=True)
            )  # halves round one way or the other
            assert abs(len(rows) - thing.area) <= 0.02 * thing.area


def test_scenes_hold_three_to_eight_things_inside_the_picture(scenes: list[Scene]) -> None:
    counts = {len(scene.things) for scene in scenes}
    assert counts == {3, 4, 5, 6, 7, 8}
    for scene in scenes:
        assert min(scene.width, scene.height) >= 240
        for thing in scene.things:
            assert 0 <= thing.box.x0 < thing.box.x1 <= scene.width
            assert 0 <= thing.box.y0 < thing.box.y1 <= scene.height


def test_small_and_large_are_far_apart_also_when_partly_hidden(scenes: list[Scene]) -> None:
    longest: dict[str, list[int]] = {size: [] for size in SIZES}
    for scene in scenes:
        for thing in scene.things:
            longest[thing.size].append(max(thing.box.x1 - thing.box.x0, thing.box.y1 - thing.box.y0))
    assert max(longest["small"]) <= 50
    assert min(longest["large"]) >= 60


def test_overlaps_occur_and_hide_at_most_a_third(scenes: list[Scene]) -> None:
    hidden = [1 - t.area / Figure(t).silhouette().sum() for scene in scenes for t in scene.things]
    assert max(hidden) < 0.35
    assert np.mean(np.array(hidden) > 0.02) > 0.05


def test_things_of_one_kind_hardly_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        for i, a in enumerate(scene.things):
            for b in scene.things[:i]:
                assert a.kind != b.kind or a.box.iou(b.box) <= 0.15


def test_every_kind_and_attribute_is_common(scenes: list[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.things]
    for field, names in (("kind", KINDS), ("colour", COLOURS), ("pattern", PATTERNS), ("size", SIZES)):
        shares = {name: sum(getattr(t, field) == name for t in things) / len(things) for name in names}
        assert min(shares.values()) > 0.6 / len(names), shares


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_side_of_a_figure_is_its_extent(kind: str) -> None:
    for extent, turn, flip in ((34.0, 0.0, False), (72.0, 11.0, True), (104.0, -12.0, False)):
        box = drawn_box(Thing(kind, "red", "plain", "large", extent, turn, flip, 1.05))
        assert abs(max(box.x1 - box.x0, box.y1 - box.y0) - extent) <= 4  # the line around it is drawn on top


def test_no_two_kinds_have_the_same_silhouette() -> None:
    masks = {}
    for kind in KINDS:
        full = Figure(Thing(kind, "red", "plain", "large", 64, 0, False, 1)).silhouette()
        canvas = np.zeros((80, 80), bool)
        top, left = (80 - full.shape[0]) // 2, (80 - full.shape[1]) // 2
        canvas[top : top + full.shape[0], left : left + full.shape[1]] = full
        masks[kind] = canvas
    for a in KINDS:
        for b in KINDS:
            if a < b:
                union = (masks[a] | masks[b]).sum()
                assert (masks[a] & masks[b]).sum() / union < 0.85, f"{a} and {b} look alike"


HUES = {"red": 0, "orange": 28, "yellow": 48, "green": 122, "blue": 217, "purple": 280}  # degrees on the colour wheel


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_thing_is_of_its_colour_and_of_no_other(kind: str, colour: str) -> None:
    pixels, cover = paint(Thing(kind, colour, "plain", "large", 90, 0, False, 1), LIGHT, np.random.default_rng(1))
    inside = (pixels[cover[..., 0] > 0.99] / 255)[None]
    hue, saturation, value = cv2.cvtColor(inside.astype(np.float32), cv2.COLOR_RGB2HSV)[0].T
    if colour in HUES:
        apart = np.abs((hue - HUES[colour] + 180) % 360 - 180)
        assert np.mean((apart < 11) & (saturation > 0.4)) > 0.4
    else:
        share = np.mean((saturation < 0.25) & ((value > 0.7) if colour == "white" else (value < 0.35)))
        assert share > 0.4


@pytest.mark.parametrize("pattern", ["striped", "dotted"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_pattern_contrasts_with_its_ground_even_on_a_small_thing(colour: str, pattern: str) -> None:
    def spread(name: str) -> float:
        thing = Thing("apple", colour, name, "small", 34, 0, False, 1)
        pixels, _ = paint(thing, LIGHT, np.random.default_rng(2))
        grey = cv2.cvtColor(np.clip(pixels, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(float)
        return float(grey[12:-8, 8:-8].std())

    assert spread(pattern) > spread("plain") + 8


def test_patterns_stay_inside_the_body() -> None:
    plain = Thing("cup", "red", "plain", "large", 100, 0, False, 1)
    shapes = [paint(replace(plain, pattern=p), LIGHT, np.random.default_rng(3))[1] for p in PATTERNS]
    assert all(np.array_equal(shapes[0], other) for other in shapes)


def test_flip_mirrors_and_turn_turns() -> None:
    thing = Thing("car", "red", "plain", "large", 80, 0, False, 1)
    mask = Figure(thing).fine_mask()
    mirrored = Figure(replace(thing, flip=True)).fine_mask()
    assert np.mean(mask != mirrored[:, ::-1]) < 0.01
    tall = Figure(replace(thing, turn=90)).fine_mask()
    assert tall.shape[0] > tall.shape[1]
    assert mask.shape[0] < mask.shape[1]
    clockwise = cv2.rotate(mask, cv2.ROTATE_90_CLOCKWISE)
    assert clockwise.shape == tall.shape
    assert np.mean(clockwise != tall) < 0.01
    assert mask.shape[0] % FINE == 0


def test_a_photograph_is_a_jpeg_and_the_same_every_time() -> None:
    scene = lay_out(1, "train", 5)
    data = photograph(scene)
    assert data == photograph(lay_out(1, "train", 5))
    assert data[:3] == b"\xff\xd8\xff"
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (scene.height, scene.width, 3)


def test_qualities_and_light_vary() -> None:
    data = [photograph(lay_out(2, "train", k)) for k in range(16)]
    brightness = [cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_GRAYSCALE).mean() for d in data]
    assert np.ptp(brightness) > 25
    sizes = [len(d) for d in data]
    assert max(sizes) > 2 * min(sizes)


def test_streams_of_one_picture_are_independent_of_each_other() -> None:
    draws = {
        (split, index, purpose): stream(0, split, index, purpose).random()
        for split in ("train", "val")
        for index in (0, 1)
        for purpose in ("layout", "paint", "questions", "annotators", "captions")
    }  # fmt: skip
    assert len(set(draws.values())) == len(draws)
