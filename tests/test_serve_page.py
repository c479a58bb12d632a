"""The page's file and its headers: nothing from outside, and nothing runs but what the file holds."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from featx.serve.page import page_extension

FILE = resources.files("featx.serve.page").joinpath("index.html").read_text()


class Parts(HTMLParser):
    """Tags with their attributes, and the text within inline scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within in self.inline:
            self.inline[self.within].append(data)


@pytest.fixture(scope="module")
def parts() -> Parts:
    found = Parts()
    found.feed(FILE)
    return found


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=list(page_extension().routes)))


def policy(client: TestClient) -> dict[str, list[str]]:
    sources = client.get("/").headers["content-security-policy"].split("; ")
    return {name: rest for name, *rest in (source.split(" ") for source in sources)}


def test_the_page_is_one_file_that_names_no_other_host(parts: Parts) -> None:
    for tag, attributes in parts.tags:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\(", "".join(parts.inline["style"]))
    links = re.findall(r"https?://[^\s'\"`]+", FILE)
    assert set(links) <= {"http://www.w3.org/2000/svg"}  # the name of SVG, which nothing fetches


def test_the_policy_lets_run_the_page_s_own_script_and_style_only(client: TestClient, parts: Parts) -> None:
    found = policy(client)
    for kind in ("script", "style"):
        assert len(parts.inline[kind]) == 1
        digest = hashlib.sha256(parts.inline[kind][0].encode()).digest()
        assert found[f"{kind}-src"] == [f"'sha256-{base64.b64encode(digest).decode()}'"]
    assert found["default-src"] == ["'none'"]
    assert found["connect-src"] == ["'self'"]
    assert found["frame-ancestors"] == ["'none'"]
    assert not any("unsafe" in source for sources in found.values() for source in sources)


def test_no_element_has_a_script_or_a_style_of_its_own(parts: Parts) -> None:
    """The policy would not let them."""
    for tag, attributes in parts.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)


def test_the_script_never_makes_html_of_text(parts: Parts) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", parts.inline["script"][0])


def test_the_page_is_sent_once_and_then_compared(client: TestClient) -> None:
    first = client.get("/")
    assert first.status_code == 200
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert first.content == FILE.encode()
    again = client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/", headers={"if-none-match": '"of another file"'})
    assert other.status_code == 200


def test_head_tells_what_get_sends(client: TestClient) -> None:
    head, get = client.head("/"), client.get("/")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-security-policy"] == get.headers["content-security-policy"]


def test_the_page_needs_no_token_and_is_described() -> None:
    extension = page_extension()
    assert extension.open == {"/"}
    assert set(extension.paths) == {"/"}
    assert set(extension.paths["/"]["get"]["responses"]) == {"200", "304"}


def test_the_page_goes_into_the_package() -> None:
    settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["package-data"]["featx.serve.page"] == ["*.html"]
