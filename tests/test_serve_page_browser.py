"""The page in a real browser: what a person sees, points at, types and hears of it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.schema import Array
from tests.browser import data
from tests.browser.chromium import Browser, chromium, missing
from tests.browser.double import ANSWERS, Double, Running
from tests.conftest import absent

DOWN, UP, LEFT, RIGHT, END, HOME, ENTER, ESCAPE, TAB = map(chr, (
    0xE015, 0xE013, 0xE012, 0xE014, 0xE010, 0xE011, 0xE007, 0xE00C, 0xE004,
))  # fmt: skip
MODEL = {"name": "lxmert", "stores": ["photos"], "languages": ["en", "fr"]}
ALL = set(range(36))


def png(pixels: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing():
        absent(reason, "FEATX_REQUIRE_BROWSER")
    with chromium(str(tmp_path_factory.mktemp("profile"))) as started:
        yield started


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        "photos": data.region_store(folder / "photos"),
        "grid": data.grid_store(folder / "grid"),
        "nameless": data.region_store(folder / "nameless", keys=["a"], labels=None),
        "empty": data.region_store(folder / "empty", keys=[]),
        **{
            dtype: data.region_store(folder / dtype, dtype, keys=["a"])
            for dtype in ("float16", "float32", "bfloat16", "int8")
        },
    }


@pytest.fixture
def server(stores: dict[str, Any]) -> Iterator[SimpleNamespace]:
    """A double, ``.double``, that runs at ``.url``; by default with pictures and a model for the store ``photos``."""
    content = png(data.picture())
    chosen = {name: stores[name] for name in ("photos", "grid")}
    double = Double(chosen, {"photos": lambda _: content, "grid": lambda _: content}, [MODEL])
    double.weights = [0.0] * 36
    with Running(double.app()) as url:
        yield SimpleNamespace(double=double, url=url)


@pytest.fixture
def page(browser: Browser, server: SimpleNamespace) -> Browser:
    """The page with the first picture of the store ``photos``."""
    browser.open(server.url)
    return shown(browser)


def shown(browser: Browser, key: str = "photo 001") -> Browser:
    browser.wait(lambda: browser.text("#key") == key and browser.all("#boxes [role=option]"), f"{key} was never shown")
    return browser


def drawn(browser: Browser, shift: int = 0) -> set[int]:
    """The boxes of the test's own lattice that have an outline: the middles of all four sides are not of the picture's
    grey."""
    pixels = browser.pixels()
    scale = pixels.shape[1] / data.WIDTH
    assert abs(pixels.shape[0] / data.HEIGHT - scale) < 0.01
    touched = (pixels[..., :3] != 128).any(axis=2)
    found = set()
    for row, (x0, y0, x1, y1) in enumerate((data.boxes() + shift) * scale):
        sides = [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)]
        if all(touched[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].any() for x, y in sides):
            found.add(row)
    return found


def light(browser: Browser, row: int) -> float:
    """How bright the middle of a box is, 0 to 255; the picture alone has 128."""
    pixels = browser.pixels()
    x0, y0, x1, y1 = data.boxes()[row] * (pixels.shape[1] / data.WIDTH)
    return float(pixels[round((y0 + y1) / 2), round((x0 + x1) / 2), :3].mean())


def centre(browser: Browser, row: int) -> tuple[float, float]:
    """Where the middle of a box is in the window."""
    left, top, width = browser.run("const r = document.getElementById('canvas').getBoundingClientRect();"
                                   "return [r.left, r.top, r.width]")  # fmt: skip
    x0, y0, x1, y1 = data.boxes()[row] * (width / data.WIDTH)
    return left + (x0 + x1) / 2, top + (y0 + y1) / 2


def listed(browser: Browser) -> list[int]:
    return [int(option.get_attribute("data-row")) for option in browser.all("#boxes [role=option]")]


def slide(browser: Browser, value: float) -> None:
    browser.run(
        "const s = document.getElementById('threshold'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input', {bubbles: true}))", value,
    )  # fmt: skip


# --- Pictures and boxes ---


def test_a_picture_is_shown_with_its_36_boxes_and_nothing_else(page: Browser) -> None:
    assert drawn(page) == ALL
    assert "36 of 36 boxes" in page.one("#canvas").get_attribute("aria-label")
    between = page.pixels()[:3, :, :3]  # above the first line of boxes
    assert (between == 128).all()
    page.press("h")
    assert (page.pixels() == [128, 128, 128, 255]).all()
    page.press("h")
    assert drawn(page) == ALL
    assert page.complaints() == []


def test_a_key_is_found_by_a_part_of_it(page: Browser) -> None:
    page.press("/", *"ÉTÉ".lower(), ENTER)
    shown(page, data.STRANGE)
    assert [key.text for key in page.all("#keys [role=option]")] == [data.STRANGE]
    assert drawn(page) == ALL
    page.press("/", *"nothing")
    page.wait_text("#keys-note", "No key contains")


def test_all_keys_are_reached_although_they_come_in_pages(page: Browser) -> None:
    assert len(page.all("#keys [role=option]")) == 100
    assert page.text("#keys-note") == "first 100 of 131 keys"
    page.one("#keys [role=option]").click()
    page.press(END)
    shown(page, "photo 100")
    page.press(DOWN)
    shown(page, "photo 101")
    page.wait_text("#keys-note", "131 keys")
    assert [key.text for key in page.all("#keys [role=option]")] == sorted(data.KEYS)


def test_previous_and_next_and_the_browser_s_back(page: Browser) -> None:
    page.press("j")
    shown(page, "photo 002")
    page.one("#next").click()
    shown(page, "photo 003")
    page.press("k")
    shown(page, "photo 002")
    page.driver.back()
    shown(page, "photo 003")
    page.driver.refresh()
    shown(page, "photo 003")


def test_pointing_at_a_box_tells_object_attribute_and_confidence(page: Browser) -> None:
    page.point_at(*centre(page, 4))
    page.wait(lambda: page.one("#tip").is_displayed(), "no tip")
    told = page.one("#tip").text
    assert "red dog" in told
    assert f"dog {data.confidences()[4]:.2f}" in told
    assert "red 0.50" in told
    assert page.one("#boxes .active").get_attribute("data-row") == "4"
    page.point_at(*centre(page, 7))  # within box 0: the smaller one counts
    page.wait_text("#tip", "wet dog")
    page.point_at(2, 2)
    page.wait(lambda: not page.one("#tip").is_displayed(), "the tip stays")


def test_the_slider_leaves_the_boxes_above_it(page: Browser) -> None:
    slide(page, 0.5)
    kept = {row for row in ALL if data.confidences()[row] >= 0.5}
    assert drawn(page) == kept
    assert 0 < len(kept) < 36
    assert set(listed(page)) == kept
    assert page.text("#shown") == f"{len(kept)} of 36 regions"
    slide(page, 1)
    assert drawn(page) == set()
    assert listed(page) == []
    slide(page, 0)
    page.press("b", "]", "]", "[")
    assert page.text("#bound") == "0.05"
    assert page.focused().get_attribute("data-row") == "0"  # the list is another, and the focus still in it


def test_regions_are_listed_the_surest_first(page: Browser) -> None:
    assert listed(page) == sorted(ALL, key=lambda row: -data.confidences()[row])


def test_proposals_and_regressed_boxes_change_places(page: Browser) -> None:
    assert (drawn(page), drawn(page, data.SHIFT)) == (ALL, set())
    page.press("p")
    assert (drawn(page), drawn(page, data.SHIFT)) == (set(), ALL)
    assert page.one("#which input:checked").get_attribute("value") == "regressed_boxes"
    page.press("p")
    assert drawn(page) == ALL


def test_names_are_written_on_the_picture(page: Browser) -> None:
    before = (page.pixels() != 128).sum()
    page.press("n")
    assert (page.pixels() != 128).sum() > 1.2 * before


def test_a_name_that_looks_like_html_is_text(page: Browser) -> None:
    page.point_at(*centre(page, 2))
    page.wait_text("#tip", "<b>tree</b>")
    assert page.all("#boxes b b") == []


# --- Questions ---


def test_a_question_is_answered_and_the_boxes_that_mattered_are_lit(page: Browser, server: SimpleNamespace) -> None:
    server.double.weights[14], server.double.weights[20], server.double.weights[3] = 0.4, 0.1, -0.2
    page.one("#question").send_keys("What colour?", ENTER)
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert server.double.asked == [
        {"store": "photos", "key": "photo 001", "question": "What colour?", "model": "lxmert", "top_k": 5,
         "explain": True}
    ]  # fmt: skip
    assert [one.text for one in page.all("#answers b")] == [answer for answer, _ in ANSWERS]
    assert page.one("#answers span").text == "81 %"
    assert light(page, 14) > 110 > 90 > light(page, 20) > 60 > light(page, 3)
    assert listed(page)[:2] == [14, 20]
    assert listed(page)[-1] == 3
    page.press(ESCAPE, ESCAPE)
    assert drawn(page) == ALL
    assert light(page, 3) == 128


def test_where_hiding_no_region_changes_anything_none_is_lit(page: Browser, server: SimpleNamespace) -> None:
    server.double.weights[14], server.double.weights[20] = 0.001, -0.3
    page.one("#question").send_keys("What?", ENTER)
    page.wait_text("#said", "No region alone mattered")
    assert drawn(page) == ALL
    assert light(page, 14) == 128


def test_a_model_that_does_not_say_what_mattered_still_answers(page: Browser, server: SimpleNamespace) -> None:
    server.double.weights = None
    page.one("#question").send_keys("What?", ENTER)
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert drawn(page) == ALL
    assert page.text("#order") == "by confidence"


def test_the_language_is_sent_where_one_is_chosen(page: Browser, server: SimpleNamespace) -> None:
    page.run("const s = document.getElementById('language'); s.value = 'fr';")
    page.one("#question").send_keys("Quelle couleur ?", ENTER)
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert server.double.asked[0]["language"] == "fr"


def upload(server: SimpleNamespace, tmp_path: Path) -> Path:
    """A picture of 60 x 40 pixels, of which the double says that it has two regions."""
    fields = {"boxes": [[5, 5, 25, 35], [30, 5, 55, 35]], "object_ids": [0, 1], "object_confs": [0.9, 0.8]}
    server.double.upload = {"key": "", "size": [40, 60], "rows": 2, "count": 2, "fields": fields, "names": {}}
    path = tmp_path / "mine.png"
    path.write_bytes(png(np.full((40, 60, 3), 200, np.uint8)))
    return path


def test_a_picture_of_one_s_own_is_uploaded_and_asked_about(
    page: Browser, server: SimpleNamespace, tmp_path: Path
) -> None:
    path = upload(server, tmp_path)
    page.one("#file").send_keys(str(path))
    page.wait(lambda: listed(page) == [0, 1], "no regions of the upload")
    assert page.text("#key") == "mine.png"
    assert "60 \u00d7 40" in page.text("#size")
    assert server.double.asked[0]["question"] == ""
    assert server.double.asked[0]["picture"] == path.read_bytes()
    assert (page.pixels()[..., :3] != 200).any()
    server.double.weights = [0.3, 0.0]
    page.one("#question").send_keys("What?", ENTER)
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert server.double.asked[1]["question"] == "What?"
    assert server.double.asked[1]["explain"] == "true"
    assert page.text("#said").startswith("Lit is what mattered")
    page.one("#back").click()
    shown(page)


def test_a_picture_can_be_dropped_on_the_page(page: Browser, server: SimpleNamespace, tmp_path: Path) -> None:
    upload(server, tmp_path)
    page.run(
        "const carried = new DataTransfer();"
        "carried.items.add(new File([new Uint8Array([1, 2, 3])], 'dropped.tif', {type: 'image/tiff'}));"
        "for (const kind of ['dragenter', 'drop'])"
        " dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));"
    )
    page.wait(lambda: listed(page) == [0, 1], "no regions of the upload")
    assert server.double.asked[0]["picture"] == b"\1\2\3"
    assert "cannot show this kind of picture" in page.text("#notices")


# --- A grid ---


def grid(browser: Browser, server: SimpleNamespace) -> None:
    browser.open(f"{server.url}#/grid/photo%20001")
    browser.wait(lambda: browser.text("#shown") == "3 \u00d7 4 cells", "no grid")


def test_a_grid_is_walked_in_two_directions(browser: Browser, server: SimpleNamespace) -> None:
    grid(browser, server)
    assert not browser.one("#slide").is_displayed()
    assert not browser.one("#which").is_displayed()
    browser.press("b", DOWN, DOWN, RIGHT, RIGHT, UP, LEFT)
    assert browser.text("#detail h3") == "Line 1, column 2"
    assert browser.focused().get_attribute("data-row") == "2"  # row 0 is the class token
    browser.press(UP)
    assert browser.text("#detail h3") == "Whole view"
    pixels = browser.pixels()
    scale = pixels.shape[1] / data.WIDTH
    for line in (120, 240):
        x = round(line * scale)
        assert (pixels[50, x - 2 : x + 3, :3] != 128).any()
        assert (pixels[x - 2 : x + 3, 50, :3] != 128).any()


def test_pointing_at_a_cell_names_its_place(browser: Browser, server: SimpleNamespace) -> None:
    grid(browser, server)
    x, y = browser.run("const r = document.getElementById('canvas').getBoundingClientRect();"
                       "return [r.left + r.width * .9, r.top + r.height * .5]")  # fmt: skip
    browser.point_at(x, y)
    browser.wait_text("#tip", "Line 2, column 4")


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "int8"])
def test_similar_features_are_told_by_their_cosine(
    browser: Browser, server: SimpleNamespace, stores: dict[str, Any], dtype: str
) -> None:
    server.double.stores = {dtype: stores[dtype]}
    browser.open(server.url)
    shown(browser, "a")
    browser.press("s", "b", DOWN)
    browser.wait(lambda: "Cosine" in browser.text("#detail"), "no cosine")
    browser.point_at(*centre(browser, 20))
    browser.wait_text("#detail h3", "tree")
    told = float(browser.text("#detail dd:nth-of-type(3)"))
    values = data.features(dtype).astype(np.float64)
    wanted = values[1] @ values[20] / np.linalg.norm(values[1]) / np.linalg.norm(values[20])
    assert abs(told - wanted) < {"int8": 0.02, "bfloat16": 0.01}.get(dtype, 0.001)


# --- Keyboard, sizes, themes ---


def test_everything_can_be_done_with_the_keyboard(page: Browser, server: SimpleNamespace) -> None:
    page.press(TAB)
    assert page.focused().text == "Skip to the question"
    page.press("/", *"photo 12", DOWN)
    page.wait(lambda: page.focused().get_attribute("data-key") == "photo 120", "no way from the search into the list")
    page.press(DOWN)
    shown(page, "photo 121")
    page.press("b", DOWN, DOWN)
    assert page.focused().get_attribute("data-row") == "2"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert "tree" in page.text("#detail h3")
    page.press(END)
    assert page.focused().get_attribute("data-row") == "35"
    assert len([one for one in page.all("#boxes [role=option]") if one.get_attribute("tabindex") == "0"]) == 1
    page.press("a", *"Where?", ENTER)
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert server.double.asked[0]["key"] == "photo 121"
    page.press(ESCAPE, "?")
    assert page.one("#help-dialog").is_displayed()
    keys = [one.text for one in page.all("#shortcuts kbd")]
    assert set("/jkba[]pnhsot?") <= set(keys)
    page.press(ESCAPE)
    assert not page.one("#help-dialog").is_displayed()


def test_single_keys_can_be_switched_off(page: Browser) -> None:
    page.press("?")
    page.one("#single").click()
    page.press(ESCAPE, "j", "h")
    assert page.text("#key") == "photo 001"
    assert drawn(page) == ALL


def test_a_narrow_window_shows_everything_below_each_other(browser: Browser, server: SimpleNamespace) -> None:
    browser.open(server.url, width=390, height=844, ratio=2)
    shown(browser)
    assert browser.run("return document.documentElement.scrollWidth") == 390
    assert overlaps(browser) == []
    assert drawn(browser) == ALL
    assert browser.pixels().shape[1] == 780  # the whole width, at the screen's own pixels
    assert not browser.one("#search").is_displayed()
    browser.one("#show-browse").click()
    browser.one("#search").send_keys("photo 005")
    browser.wait(lambda: len(browser.all("#keys [role=option]")) == 1, "no search")
    browser.one("#keys [role=option]").click()
    shown(browser, "photo 005")
    assert not browser.one("#search").is_displayed()
    browser.run("scrollTo(0, 0)")
    browser.point_at(*centre(browser, 4), click=True)
    browser.wait_text("#detail h3", "red dog")
    small = browser.run(
        "return [...document.querySelectorAll('button, select, #ask input')].filter((e) => e.offsetHeight)"
        ".filter((e) => e.offsetHeight < 36).map((e) => e.id || e.textContent)"
    )
    assert small == []


def overlaps(browser: Browser) -> list[str]:
    """Parts of the middle column that lie over each other."""
    return list(
        browser.run(
            "const parts = [...document.querySelectorAll('#look > *')].filter((e) => e.offsetHeight);"
            "return parts.slice(1).filter((e, i) => e.getBoundingClientRect().top"
            " < parts[i].getBoundingClientRect().bottom - 1).map((e) => e.id)"
        )
    )


@pytest.mark.parametrize("size", [(1024, 500), (900, 700), (861, 600), (1920, 1080), (320, 568)])
def test_nothing_lies_over_anything_else_in_any_window(
    browser: Browser, server: SimpleNamespace, size: tuple[int, int]
) -> None:
    browser.open(server.url, width=size[0], height=size[1])
    shown(browser)
    assert overlaps(browser) == []
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    assert drawn(browser) == ALL


def ground(browser: Browser) -> float:
    """How bright the page's ground is, 0 to 255."""
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    return float(np.mean([int(part) for part in colour[4:-1].split(",")]))


def test_the_theme_is_the_system_s_until_another_is_chosen(browser: Browser, server: SimpleNamespace) -> None:
    browser.open(server.url, dark=True)
    shown(browser)
    assert ground(browser) < 40
    assert browser.text("#theme-name") == "System"
    browser.one("#theme").click()
    assert ground(browser) > 220
    assert browser.text("#theme-name") == "Light"
    browser.driver.refresh()
    shown(browser)
    assert ground(browser) > 220
    browser.press("t", "t")
    assert browser.text("#theme-name") == "System"
    assert ground(browser) < 40


# --- Refusals ---


def test_a_token_is_asked_for_kept_in_the_tab_and_never_in_an_address(
    browser: Browser, server: SimpleNamespace
) -> None:
    server.double.token = "open sesame"
    browser.open(server.url)
    browser.wait(lambda: browser.one("#token-dialog").is_displayed(), "no token was asked for")
    browser.one("#token").send_keys("wrong", ENTER)
    browser.wait_text("#token-note", "not accepted")
    browser.wait(lambda: browser.one("#token-dialog").is_displayed(), "no token was asked for again")
    browser.one("#token").send_keys("open sesame", ENTER)
    shown(browser)
    assert drawn(browser) == ALL  # the picture, too
    assert browser.run("return [sessionStorage.length, localStorage.length]") == [1, 0]
    assert browser.one("#token").get_attribute("value") == ""
    browser.driver.refresh()
    shown(browser)
    assert not browser.one("#token-dialog").is_displayed()
    assert not [url for _, url in server.double.seen if "sesame" in url or "wrong" in url]


def test_whoever_has_no_token_is_told(browser: Browser, server: SimpleNamespace) -> None:
    server.double.token = "secret"
    browser.open(server.url)
    browser.wait(lambda: browser.one("#token-dialog").is_displayed(), "no token was asked for")
    browser.one("#token-cancel").click()
    browser.wait_text("#notices", "needs a token")
    browser.one("#notices button").click()
    browser.wait(lambda: browser.one("#token-dialog").is_displayed(), "no token was asked for again")
    browser.one("#token").send_keys("secret", ENTER)
    shown(browser)


def test_a_busy_server_is_asked_again_when_it_said(page: Browser, server: SimpleNamespace) -> None:
    server.double.busy, server.double.retry_after = 1, "4"  # seconds in which it can be seen, on a busy machine too
    page.press("j")
    page.wait_text("#notices", "busy")
    shown(page, "photo 002")
    assert page.text("#notices") == ""


def test_a_question_ends_with_the_picture_it_was_about(page: Browser, server: SimpleNamespace) -> None:
    server.double.busy, server.double.retry_after = 1, "20"
    page.one("#question").send_keys("What?", ENTER)
    page.wait_text("#notices", "busy")
    page.press(ESCAPE, "j")
    shown(page, "photo 002")
    assert page.text("#notices") == ""
    page.one("#go").click()
    page.wait(lambda: page.all("#answers li"), "no answer")
    assert [asked["key"] for asked in server.double.asked] == ["photo 002"]


def test_a_server_that_is_busy_for_long_is_left_alone(page: Browser, server: SimpleNamespace) -> None:
    server.double.busy, server.double.retry_after = 1, "600"
    page.one("#question").send_keys("What?", ENTER)
    page.wait_text("#notices", "left alone for 600 seconds")
    assert page.one("#go").is_enabled()
    page.one("#notices button").click()
    page.wait(lambda: page.all("#answers li"), "no answer")


def test_a_key_that_is_not_there_is_told_with_the_server_s_hint(browser: Browser, server: SimpleNamespace) -> None:
    browser.open(f"{server.url}#/photos/gone")
    browser.wait_text("#notices", "'gone' is not in the store. Browse the keys.")
    browser.press("j")
    shown(browser)
    assert browser.text("#notices") == ""


def test_a_server_that_went_away_is_told(browser: Browser, stores: dict[str, Any]) -> None:
    double = Double({"photos": stores["photos"]}, {}, [])
    with Running(double.app()) as url:
        browser.open(url)
        shown(browser)
    browser.press("j")
    browser.wait_text("#notices", "cannot be reached")


def test_pictures_that_are_not_served_leave_an_empty_sheet(browser: Browser, server: SimpleNamespace) -> None:
    server.double.pictures = {}
    browser.open(server.url)
    shown(browser)
    assert "--pictures photos=FOLDER" in page_text(browser)
    assert not [url for _, url in server.double.seen if "/pictures/" in url]
    server.double.pictures = {"photos": lambda _: None}
    browser.open(server.url)
    shown(browser)
    assert "There is no picture of this key. Boxes are drawn on an empty sheet." in page_text(browser)
    assert len(listed(browser)) == 36


def page_text(browser: Browser) -> str:
    return browser.text("#notices")


def test_a_server_without_a_model_says_how_to_get_answers(browser: Browser, server: SimpleNamespace) -> None:
    server.double.models = []
    browser.open(server.url)
    shown(browser)
    assert not browser.one("#question").is_enabled()
    assert not browser.one("#open").is_enabled()
    assert "--model DIR" in browser.text("#why")
    server.double.models = [MODEL]
    grid(browser, server)
    assert "No model here reads this store" in browser.text("#why")
    assert browser.one("#open").is_enabled()


def test_a_store_without_names_calls_regions_by_number(
    browser: Browser, server: SimpleNamespace, stores: dict[str, Any]
) -> None:
    server.double.stores = {"nameless": stores["nameless"]}
    browser.open(server.url)
    shown(browser, "a")
    assert "no names of classes" in browser.text("#notices")
    browser.point_at(*centre(browser, 4))
    browser.wait_text("#tip", "object 1")


def test_an_empty_store_and_no_store_are_said_to_be_so(
    browser: Browser, server: SimpleNamespace, stores: dict[str, Any]
) -> None:
    server.double.stores = {"empty": stores["empty"]}
    browser.open(server.url)
    browser.wait_text("#empty", "The store is empty")
    server.double.stores = {}
    browser.open(server.url)
    browser.wait_text("#empty", "No store is served here")


def test_refused_pictures_are_listed_with_their_reason(page: Browser) -> None:
    assert page.text("#refused summary") == "1 picture refused"
    page.one("#refused summary").click()
    page.wait_text("#refused ul", "brokentruncated: the file ends early")


# --- What assistive technology meets ---


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, from the file that FEATX_AXE names."""
    place = os.environ.get("FEATX_AXE", "")
    if not Path(place).is_file():
        absent(
            "there is no axe-core: `npm pack axe-core`, unpack it, and set FEATX_AXE to its axe.min.js",
            "FEATX_REQUIRE_BROWSER",
        )
    return Path(place).read_text()


def problems(browser: Browser, axe: str) -> list[str]:
    """What axe-core calls serious or critical, and where."""
    browser.run(axe)
    found = browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations']}).then(r => done(r.violations), e => done(String(e)))"
    )
    assert isinstance(found, list), found
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in serious]


@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
def test_axe_finds_nothing_serious(browser: Browser, server: SimpleNamespace, axe: str, look: str) -> None:
    server.double.weights[14] = 0.4
    browser.open(server.url, dark=look == "dark", **({"width": 390, "height": 844} if look == "narrow" else {}))
    shown(browser)
    browser.one("#question").send_keys("What?", ENTER)
    browser.wait(lambda: browser.all("#answers li"), "no answer")
    browser.run("document.activeElement.blur()")
    browser.press("b", DOWN)
    assert problems(browser, axe) == []
    if look == "light":
        browser.press("?")
        assert problems(browser, axe) == []


def test_axe_finds_nothing_serious_in_a_grid_and_where_things_are_missing(
    browser: Browser, server: SimpleNamespace, axe: str
) -> None:
    grid(browser, server)
    browser.press("b", DOWN)
    assert problems(browser, axe) == []
    server.double.pictures, server.double.models = {}, []
    browser.open(f"{server.url}#/photos/gone")
    browser.wait_text("#notices", "is not in the store")
    assert problems(browser, axe) == []
    server.double.stores = {}
    browser.open(server.url)
    browser.wait_text("#empty", "No store")
    assert problems(browser, axe) == []
