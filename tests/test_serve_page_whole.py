"""The page on the server itself, in a real browser: with a token, and with the package's own model and detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import featx
from featx.cli import main
from featx.scenes import write_scenes
from featx.serve.plan import Plan, application
from featx.serve.settings import Settings
from tests.browser import data
from tests.browser.chromium import Browser, chromium, missing
from tests.browser.double import Running
from tests.conftest import absent
from tests.test_serve_page_browser import ALL, ENTER, drawn, listed, shown

QUESTION = "How many things are there?"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing():
        absent(reason, "FEATX_REQUIRE_BROWSER")
    with chromium(str(tmp_path_factory.mktemp("profile"))) as started:
        yield started


def test_a_store_its_pictures_and_a_token(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    keys = ["a", "b c", "zürich 100%"]
    for key in keys:
        Image.fromarray(data.picture()).save(folder / f"{key}.png")
    data.region_store(tmp_path / "photos.featx", keys=keys)
    store = ("photos", str(tmp_path / "photos.featx"))
    plan = Plan(Settings(token="open sesame"), (store,), (), (("photos", str(folder)),))
    with Running(application(plan)) as url:
        browser.open(url)
        browser.wait(lambda: browser.one("#token-dialog").is_displayed(), "no token was asked for")
        browser.one("#token").send_keys("open sesame", ENTER)
        for key in keys:
            shown(browser, key)
            assert drawn(browser) == ALL
            browser.press("j")
        browser.press("s", "b")
        browser.wait(lambda: "Cosine" in browser.text("#detail"), "no cosine")
        refused = [told for told in browser.complaints() if "401" not in told]
        assert refused == []  # nothing that the page's policy, or the server, does not let it
        browser.driver.get(f"{url}?again#/photos/gone")
        browser.wait_text("#notices", "gone")


def test_questions_to_the_default_model(browser: Browser, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 2, 1, 0, ("en",), workers=1)
    folder, store = tmp_path / "scenes/train", tmp_path / "scenes.featx"
    arguments = ["--weights", "tiny", "--key-rule", "stem", "--quiet", "--workers", "1"]
    assert main(["extract", str(folder), str(store), *arguments]) == 0
    own = next((tmp_path / "scenes/val").glob("*.jpg"))
    ask = featx.Predictor(store=str(store))
    plan = Plan(Settings(), (("scenes", str(store)),), ("default",), (("scenes", str(folder)),))
    with Running(application(plan)) as url:
        browser.open(url)
        browser.wait(lambda: listed(browser), "no regions")
        key = browser.text("#key")
        assert len(listed(browser)) == len(ask.store[key])
        browser.one("#question").send_keys(QUESTION, ENTER)
        answered(browser, [one["answer"] for one in ask(key, QUESTION)])
        browser.one("#file").send_keys(str(own))
        answered(browser, [one["answer"] for one in ask(str(own), QUESTION)])
        assert browser.text("#key") == own.name
        assert len(listed(browser)) == len(ask.record(str(own)))


def answered(browser: Browser, wanted: list[str]) -> None:
    """These answers stand there, the surest first. The first question waits until the model is loaded."""
    browser.wait(lambda: [one.text for one in browser.all("#answers b")] == wanted, f"not answered {wanted}", 300)
    assert browser.text("#said")
