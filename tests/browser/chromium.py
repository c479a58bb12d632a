"""Debian's chromium, driven by selenium: how it is started, and what a test reads off a page."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from featx.schema import Array

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
         "--force-color-profile=srgb", "--hide-scrollbars", "--lang=en")  # fmt: skip
WAIT = 60.0  # seconds until something has to be there


def missing() -> str | None:
    """Why no browser can be started here, or None."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program} (Debian: apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install selenium)"
    return None


@contextmanager
def chromium(profile: str) -> Iterator[Browser]:
    """A browser with an empty profile in the folder ``profile``."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """A tab, and the page in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False, ratio: float = 1) -> None:
        """Load a page anew, nothing remembered, in a window of that size (CSS pixels)."""
        self.driver.get("about:blank")
        self.command("Storage.clearDataForOrigin", origin=url.split("#")[0].rstrip("/"), storageTypes="all")
        narrow = width < 600
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio,
                     mobile=narrow)  # fmt: skip
        self.command("Emulation.setTouchEmulationEnabled", enabled=narrow)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.driver.get_log("browser")
        self.driver.get(url)
        self.run("sessionStorage.clear()")

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def wait(self, met: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
        """Until ``met()`` is true; what it returned."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.03).until(lambda _: met(), what)

    def wait_text(self, selector: str, words: str) -> None:
        self.wait(lambda: words in self.text(selector), f"{words!r} never appeared in {selector}")

    def press(self, *keys: str) -> None:
        """Keys, one after the other, to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def point_at(self, x: float, y: float, *, click: bool = False) -> None:
        """Move the pointer to a place of the window, CSS pixels."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=0)
        chain.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        if click:
            chain.click()
        chain.perform()

    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def pixels(self) -> Array:
        """What is on the canvas: uint8 ``[H, W, 4]``, its own pixels."""
        url = self.run("return document.getElementById('canvas').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))

    def complaints(self) -> list[str]:
        """What the page, or the browser about it, wrote to the console as an error since it was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def shot(self, path: str) -> None:
        """The window as a PNG."""
        self.driver.save_screenshot(path)
