"""An answer on its picture: light and lines where the attention is, and a caption; no picture is compared whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import featx.draw.answer as module
from featx.draw import letters
from featx.draw.answer import Said, draw_answer
from featx.errors import UsageError
from featx.record import Record

LABELS = {"objects": ["cube", "ball"], "attributes": ["red"]}
LEFT, RIGHT = [100.0, 200, 500, 900], [700.0, 200, 1200, 900]
SAID = [Said([("red", 0.93), ("blue", 0.05)])]


def record(boxes: Any = (LEFT, RIGHT), size: tuple[int, int] = (1280, 1280)) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(np.zeros((len(boxes), 1), np.float32), boxes, size, -1,
                  {"object_ids": np.arange(len(boxes), dtype=np.int32) % 2})  # fmt: skip


def photo(size: tuple[int, int] = (1280, 1280), value: int = 128) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(module, "write", lambda canvas, text, *rest, **more: calls.append(text))
    return calls


def level(canvas: np.ndarray, box: list[float]) -> float:
    """Mean brightness inside a box, away from its line."""
    x0, y0, x1, y1 = (int(v) for v in box)
    return float(canvas[y0 + 60 : y1 - 60, x0 + 60 : x1 - 60].mean())


def test_the_picture_keeps_its_light_where_the_attention_is_and_is_dim_elsewhere() -> None:
    canvas = draw_answer(photo(), record(), [0.9, 0.1], "What colour?", SAID)
    assert level(canvas, LEFT) == pytest.approx(128, abs=2)
    assert level(canvas, RIGHT) < 90
    assert canvas[1000:1200, 300:1200].mean() < level(canvas, RIGHT)
    turned = draw_answer(photo(), record(), [0.1, 0.9], "What colour?", SAID)
    assert level(turned, RIGHT) > level(turned, LEFT) + 40


def test_stronger_attention_has_stronger_lines() -> None:
    canvas = draw_answer(photo(), record(), [0.8, 0.3], "What?", SAID).astype(int)
    amber = (canvas[..., 0] - canvas[..., 2]) > 60  # red well above blue
    row = 700
    left, right = amber[row, 90:115].sum(), amber[row, 690:715].sum()
    assert left > right >= 1


def test_regions_without_attention_have_no_line() -> None:
    canvas = draw_answer(photo(), record(), [0.99, 0.01], "What?", SAID)[:1280].astype(int)
    amber = (canvas[..., 0] - canvas[..., 2]) > 60
    assert amber[:, 90:510].any()
    assert not amber[:, 690:].any()


def test_regions_with_attention_are_named_with_their_share(written: list[str]) -> None:
    draw_answer(photo(), record(), [0.6, 0.2], "What?", SAID, LABELS)
    assert "cube  75 %" in written
    assert "ball  25 %" in written
    written.clear()
    draw_answer(photo(), record(), [0.9, 0.05], "What?", SAID, LABELS)
    assert not any("ball" in text for text in written)


def test_the_caption_has_question_answers_and_footer(written: list[str]) -> None:
    two = [Said([("red", 0.93), ("blue", 0.05)], "vqa"), Said([("crimson", 0.5)], "gqa")]
    draw_answer(photo(), record(), [0.5, 0.5], "What colour is the cube?", two, footer="p1 | 2 regions")
    assert {"What colour is the cube?", "vqa", "red", "93 %", "blue", "5 %", "gqa", "crimson", "50 %"} <= set(written)
    assert "p1 | 2 regions" in written


def test_answers_of_no_weight_are_not_written(written: list[str]) -> None:
    draw_answer(photo(), record(), [0.5, 0.5], "What?", [Said([("red", 0.001), ("blue", 0.009), ("no", 0.0009)])])
    assert {"red", "blue"} <= set(written)
    assert "no" not in written


def test_the_caption_is_a_band_below_the_whole_picture() -> None:
    canvas = draw_answer(photo(value=200), record(), [1.0, 1.0], "What?", SAID)
    assert canvas.dtype == np.uint8
    assert canvas.shape[1] == 1280
    band = canvas[1280:]
    assert 80 < len(band) < 400
    assert (np.abs(band.astype(int) - (24, 26, 31)).max(axis=2) < 3).mean() > 0.8  # dark ground
    assert (band.max(axis=2) > 180).sum() > 100  # with light letters on it
    longer = draw_answer(photo(), record(), [1.0, 1.0], "What is it? " * 30, SAID)
    assert len(longer) > len(canvas) + 60


def test_letters_of_many_languages_are_drawn() -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "FontFace"):
        pytest.skip("this OpenCV draws strokes, which have no accents")
    seen = []
    for text in ("é", "ß", "ñ", "색", "색깔", "?"):
        canvas = np.zeros((60, 120, 3), np.uint8)
        letters.write(canvas, text, (10, 45), 32, (255, 255, 255))
        assert canvas.any(), text
        seen.append(canvas.tobytes())
    assert len(set(seen)) == len(seen)


def test_without_outline_fonts_accents_are_dropped() -> None:
    assert letters._plain("Où, größer, niño? 색") == "Ou, grosser, nino? ?"


def test_lines_are_broken_between_words_and_fit() -> None:
    lines = letters.wrap("one two three four five six seven", 20, 150)
    assert " ".join(lines) == "one two three four five six seven"
    assert len(lines) > 1
    assert all(letters.measure(line, 20) <= 150 for line in lines)
    assert letters.wrap("", 20, 100) == []


@pytest.mark.parametrize("size", [(1, 1), (40, 2000), (2000, 40), (300, 200)])
def test_pictures_of_any_form_are_drawn(size: tuple[int, int]) -> None:
    boxes = [[0, 0, size[1], size[0]], [0, 0, 0, 0]]
    canvas = draw_answer(photo(size), record(boxes, size), [0.5, 0.5], "What is it?", SAID)
    assert canvas.shape[1] >= 560


def test_no_regions_and_no_attention_are_fine() -> None:
    assert draw_answer(photo(), record(np.zeros((0, 4))), [], "What?", SAID).shape[1] == 1280
    assert draw_answer(photo(), record(), [0.0, 0.0], "What?", [Said([])]).shape[1] == 1280


def test_the_given_picture_is_left_alone() -> None:
    pixels = photo()
    draw_answer(pixels, record(), [1.0, 0.5], "What?", SAID)
    assert (pixels == 128).all()


@pytest.mark.parametrize(("size", "weights"), [((10, 10), [0.5, 0.5]), ((1280, 1280), [1.0])])
def test_another_picture_or_other_weights_are_an_error(size: tuple[int, int], weights: list[float]) -> None:
    with pytest.raises(UsageError, match="1280 x 1280 and has 2 regions"):
        draw_answer(photo(size), record(), weights, "What?", SAID)
