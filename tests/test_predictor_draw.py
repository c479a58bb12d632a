"""An answer on its picture: light and lines where the attention is, and a caption; no picture is compared whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from featx.draw import letters
from featx.draw.answer import Said, draw_answer
from featx.draw.plates import place
from featx.errors import UsageError
from featx.record import Record

LABELS = {"objects": ["cube", "ball"], "attributes": ["red"]}
LEFT, RIGHT = [100.0, 200, 500, 900], [700.0, 200, 1200, 900]
FAR = ([10.0, 1220, 30, 1240], [40.0, 1220, 60, 1240])  # two more, small and out of the way
SAID = [Said([("red", 0.93), ("blue", 0.05)])]


def record(boxes: Any = (LEFT, RIGHT), size: tuple[int, int] = (1280, 1280)) -> Record:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(np.zeros((len(boxes), 1), np.float32), boxes, size, -1,
                  {"object_ids": np.arange(len(boxes), dtype=np.int32) % 2})  # fmt: skip


def photo(size: tuple[int, int] = (1280, 1280), value: int = 128) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@dataclass
class Written:
    """One text: where its first letter stands, its size, colour and right end, and the canvas it is written on."""

    text: str
    at: tuple[int, int]
    size: int
    ink: Any
    end: int
    canvas: np.ndarray


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    found: list[Written] = []
    real = letters.write

    def spy(canvas: np.ndarray, text: str, at: tuple[int, int], size: int, ink: Any, *, bold: bool = False) -> None:
        end = at[0] + letters.measure(text, size, bold=bold)
        found.append(Written(text, at, size, ink, end, canvas.copy()))
        real(canvas, text, at, size, ink, bold=bold)

    monkeypatch.setattr(letters, "write", spy)
    return found


def texts(calls: list[Written]) -> list[str]:
    return [one.text for one in calls]


def level(canvas: np.ndarray, box: list[float]) -> float:
    """Mean brightness inside a box, away from its line."""
    x0, y0, x1, y1 = (int(v) for v in box)
    return float(canvas[y0 + 60 : y1 - 60, x0 + 60 : x1 - 60].mean())


def test_the_picture_keeps_its_light_where_the_attention_is_and_is_dim_elsewhere() -> None:
    four = record((LEFT, RIGHT, *FAR))
    canvas = draw_answer(photo(), four, [0.6, 0.3, 0.05, 0.05], "What colour?", SAID)
    assert level(canvas, LEFT) == pytest.approx(128, abs=2)
    assert level(canvas, RIGHT) < 100
    assert canvas[1000:1200, 300:1200].mean() < level(canvas, RIGHT) - 10
    turned = draw_answer(photo(), four, [0.3, 0.6, 0.05, 0.05], "What colour?", SAID)
    assert level(turned, RIGHT) > level(turned, LEFT) + 30


def test_stronger_attention_has_stronger_lines() -> None:
    canvas = draw_answer(photo(), record((LEFT, RIGHT, *FAR)), [0.5, 0.3, 0.1, 0.1], "What?", SAID).astype(int)
    amber = (canvas[..., 0] - canvas[..., 2]) > 60  # red well above blue
    row = 700
    left, right = amber[row, 90:115].sum(), amber[row, 690:715].sum()
    assert left > right >= 1


def test_regions_with_less_than_an_even_share_have_neither_line_nor_light() -> None:
    weights = [0.4, 0.24, 0.18, 0.18]  # an even share is 0.25
    canvas = draw_answer(photo(), record((LEFT, RIGHT, *FAR)), weights, "What?", SAID)
    amber = (canvas[:1280, ..., 0].astype(int) - canvas[:1280, ..., 2]) > 60
    assert amber[:, 90:510].any()
    assert not amber[:, 690:].any()
    assert level(canvas, RIGHT) == pytest.approx(canvas[1000:1200, 300:1200].mean(), abs=2)


def test_the_strongest_region_and_those_well_above_an_even_share_are_named(calls: list[Written]) -> None:
    four = record((LEFT, RIGHT, *FAR))
    for weights, named in (
        ([0.75, 0.25, 0, 0], {"cube  75 %"}),  # an even share is not enough
        ([0.4, 0.33, 0.14, 0.13], {"cube  40 %", "ball  33 %"}),
        ([8.0, 6.4, 2.4, 3.2], {"cube  40 %"}),  # 32 % is not 1.3 times 25 %
        ([0.28, 0.26, 0.23, 0.23], {"cube  28 %"}),
    ):
        calls.clear()
        draw_answer(photo(), four, weights, "What?", [], LABELS)
        assert {text for text in texts(calls) if "%" in text} == named


def test_at_most_three_regions_are_named_and_one_alone_is(calls: list[Written]) -> None:
    boxes = [[100 * i, 100, 100 * i + 80, 300] for i in range(12)]
    draw_answer(photo(), record(boxes), [0.19] * 5 + [0.05 / 7] * 7, "What?", [], LABELS)
    assert len([text for text in texts(calls) if "19 %" in text]) == 3
    calls.clear()
    draw_answer(photo(), record([LEFT]), [1.0], "What?", [], LABELS)
    assert "cube  100 %" in texts(calls)


def test_the_plate_of_a_weaker_region_is_darker_and_its_text_legible(calls: list[Written]) -> None:
    weights = [0.45, 0.33, 0.11, 0.11]
    draw_answer(photo(), record((LEFT, RIGHT, *FAR)), weights, "What?", [], LABELS)
    shares = {one.text: one for one in calls if "%" in one.text}
    plates = {text: one.canvas[one.at[1] + 2, one.at[0] - 3] for text, one in shares.items()}
    assert luminance(plates["cube  45 %"]) > 1.3 * luminance(plates["ball  33 %"])
    for text, one in shares.items():
        light, dark = sorted((luminance(one.ink), luminance(plates[text])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text  # level AA of WCAG 2


def luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2."""
    c = np.asarray(colour, float) / 255
    return float(np.dot(np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), (0.2126, 0.7152, 0.0722)))


def test_a_plate_does_not_cover_the_middle_of_another_box_where_there_is_room() -> None:
    for x in range(100, 700, 40):
        for y in range(100, 700, 40):
            boxes = np.array([[300.0, 300, 700, 700], [x, y, x + 130, y + 130]])
            plates = place(boxes, [(220, 36), (220, 36)], (1280, 1280))
            for plate, other in ((plates[0], boxes[1]), (plates[1], boxes[0])):
                middle = (other[:2] + other[2:]) / 2
                assert not ((plate[:2] < middle) & (middle < plate[2:])).all(), (x, y)


def test_the_caption_has_question_answers_and_footer(calls: list[Written]) -> None:
    two = [Said([("red", 0.93), ("blue", 0.05)], "vqa"), Said([("crimson", 0.5)], "gqa")]
    draw_answer(photo(), record(), [0.5, 0.5], "What colour is the cube?", two, footer=["p1", "2 regions"])
    wanted = {"What colour is the cube?", "vqa", "red", "93 %", "blue", "5 %", "gqa", "crimson", "50 %"}
    assert wanted <= set(texts(calls))
    assert "p1 | 2 regions" in texts(calls)


def test_nothing_runs_off_the_canvas_however_long_and_without_spaces(calls: list[Written]) -> None:
    japanese = (
        "この写真の真ん中に写っている白い枕のとなりに置いてあるものは何色ですかそしてその形はどのようなものでしょうか"
        * 2
    )
    path = "a/very/long/path/" * 20 + "photo.jpg"
    for size in ((1280, 1280), (2000, 40)):
        boxes = [[0, 0, size[1], size[0]]]
        for answer in ("とても長い答え" * 20, "pneumonoultramicroscopicsilicovolcanoconiosis" * 3):
            calls.clear()
            said = [Said([(answer, 0.62), (answer, 0.2)], "runs/" * 30 + "best"), Said([("red", 0.5)], "b")]
            names = {"objects": ["supercalifragilistic" * 10, "ball"]}
            draw_answer(photo(size), record(boxes, size), [1.0], japanese, said, names, footer=[path, "2 regions"])
            assert all(one.at[0] >= 0 and one.end <= one.canvas.shape[1] for one in calls)
            assert "62 %" in texts(calls)
            assert japanese in "".join(texts(calls))
            (footer,) = [text for text in texts(calls) if "jpg" in text]
            assert footer.startswith("a/very")
            assert "..." in footer


def test_a_long_answer_is_written_smaller_before_it_is_cut(calls: list[Written]) -> None:
    sizes = {}
    for answer in ("red", "a rather long answer about the thing that was asked about here"):
        calls.clear()
        draw_answer(photo(), record(), [0.5, 0.5], "What?", [Said([(answer, 0.6)])])
        (sizes[len(answer)],) = [one.size for one in calls if one.text == answer]
    assert sizes[3] > sizes[62] >= 16


def test_answers_of_no_weight_are_not_written(calls: list[Written]) -> None:
    draw_answer(photo(), record(), [0.5, 0.5], "What?", [Said([("red", 0.001), ("blue", 0.009), ("no", 0.0009)])])
    assert {"red", "blue"} <= set(texts(calls))
    assert "no" not in texts(calls)


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


def test_a_word_wider_than_the_line_is_broken_between_letters_and_nothing_is_lost() -> None:
    word = "e\u0301" * 60
    lines = letters.wrap(f"one {word} two", 20, 150)
    assert "".join(lines).replace("one", "", 1).replace("two", "", 1).replace(" ", "") == word
    assert all(letters.measure(line, 20) <= 150 for line in lines)
    assert not any(line.startswith("\u0301") for line in lines)  # no accent is torn off


def test_what_is_too_long_for_its_place_loses_its_middle() -> None:
    path = "/home/somebody/photos/2014/july/COCO_val2014_000000000042.jpg"
    short = letters.shortened(path, 20, 300)
    head, tail = short.split("...")
    assert letters.measure(short, 20) <= 300
    assert path.startswith(head)
    assert path.endswith(tail)
    assert min(len(head), len(tail)) >= 8
    assert letters.shortened(path, 20, 3000) == path


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
