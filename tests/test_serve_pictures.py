"""The original pictures by key: what lies in the folder and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

import featx.serve.pictures
from featx.errors import PictureRefused, UsageError
from featx.record import Record
from featx.schema import region_schema
from featx.serve.app import make_app
from featx.serve.mounted import Mounts
from featx.serve.pictures import Pictures, pictures_extension
from featx.serve.settings import Settings
from featx.store import Manifest, create_store, open_part

URL = "/v1/stores/s/pictures/"


def encoded(suffix: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep/er").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.png", "deep/er/c.webp", "d.bmp", "e.tiff", "ü n#?%.png"):
        (folder / name).write_bytes(encoded(Path(name).suffix))
    (folder / "notes.txt").write_text("no picture")
    (tmp_path / "secret.png").write_bytes(encoded(".png", 1))
    return folder


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    store = tmp_path / "s.featx"
    schema = region_schema(4, "float32", attributes=False, rows=1)
    create_store(store, "lmdb", schema, {"key_rule": "path"})
    with open_part(store) as writer:
        extra = {"object_ids": np.zeros(1, np.int32), "object_confs": np.zeros(1, np.float32)}
        writer.put("a", Record(np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32), (9, 11), 1, extra), 0)
        writer.finish()
    return Mounts.of(s=store, t=store)


def serve(mounts: Mounts, pictures: Any) -> TestClient:
    extension = pictures_extension(Settings(), mounts, pictures)
    return TestClient(make_app(Settings(), mounts, [extension]), base_url="http://127.0.0.1")


@pytest.fixture
def web(mounts: Mounts, folder: Path) -> Iterator[TestClient]:
    with serve(mounts, {"s": Pictures.of(folder, mounts["s"].manifest)}) as client:
        yield client


@pytest.mark.parametrize(
    ("key", "name", "kind"),
    [
        ("a", "a.jpg", "image/jpeg"), ("deep/b", "deep/b.png", "image/png"), ("deep%2Fb", "deep/b.png", "image/png"),
        ("deep/er/c", "deep/er/c.webp", "image/webp"), ("d", "d.bmp", "image/bmp"), ("e", "e.tiff", "image/tiff"),
        ("%C3%BC%20n%23%3F%25", "ü n#?%.png", "image/png"), ("u%CC%88%20n%23%3F%25", "ü n#?%.png", "image/png"),
    ],
)  # fmt: skip
def test_a_picture_comes_as_it_lies_with_what_it_is(
    web: TestClient, folder: Path, key: str, name: str, kind: str
) -> None:
    answer = web.get(URL + key)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.content == (folder / name).read_bytes()
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = web.head(URL + key)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])
    same = web.get(URL + key, headers={"if-none-match": f'"x", {answer.headers["etag"]}'})
    assert (same.status_code, same.content) == (304, b"")
    (folder / name).write_bytes(encoded(Path(name).suffix, 2))
    other = web.get(URL + key, headers={"if-none-match": answer.headers["etag"]})
    assert (other.status_code, other.content) == (200, encoded(Path(name).suffix, 2))


@pytest.mark.parametrize(
    "key",
    [
        "nothing", "a.jpg", "notes", "notes.txt", "deep", "deep/", "%2E%2E%2Fsecret", "..%2Fsecret", "..%2F..%2Fsecret",
        "deep%2F..%2Fa", "/etc/passwd", "%2Fetc%2Fpasswd", "a%00", "a%0A", "%FF", "x" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_key_of_the_list_is_not_there(web: TestClient, key: str) -> None:
    answer = web.get(URL + key)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_stores_without_pictures_and_unknown_ones_say_so(web: TestClient) -> None:
    assert web.get("/v1/stores/t/pictures/a").json()["error"]["code"] == "not_found"
    assert web.get("/v1/stores/u/pictures/a").json()["error"]["code"] == "no_such_store"
    stores = {one["name"]: one["pictures"] for one in web.get("/v1/stores").json()["stores"]}
    assert stores == {"s": True, "t": False}


def test_links_out_of_the_folder_are_refused_and_links_within_are_followed(
    web: TestClient, folder: Path, tmp_path: Path
) -> None:
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.png").write_bytes(encoded(".png", 3))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "within.jpg").symlink_to("a.jpg")
    for key in ("out", "linked/x"):
        answer = web.get(URL + key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "unreadable")
        assert str(tmp_path) not in answer.text
    assert web.get(URL + "within").content == (folder / "a.jpg").read_bytes()


def test_a_link_that_takes_the_place_of_a_folder_is_not_followed(web: TestClient, folder: Path, tmp_path: Path) -> None:
    assert web.get(URL + "deep/b").status_code == 200
    (folder / "deep").rename(tmp_path / "moved")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/b.png").write_bytes(encoded(".png", 3))
    (folder / "deep").symlink_to(tmp_path / "evil")
    assert web.get(URL + "deep/b").status_code == 403


def test_what_is_no_picture_or_too_large_is_refused(
    web: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "page.png").write_bytes(b"<html><script>alert(1)</script>")
    (folder / "drawn.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "empty.png").write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    for key in ("page", "drawn", "empty"):
        assert web.get(URL + key).json()["error"]["code"] == "not-an-image"
    assert web.get(URL + "pipe").status_code == 404  # never listed
    monkeypatch.setattr(featx.serve.pictures, "LARGEST", 10)
    answer = web.get(URL + "a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "too-large")


def test_a_picture_that_is_gone_or_new_is_noticed(
    mounts: Mounts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(featx.serve.pictures.time, "monotonic", lambda: now[0])
    pictures = Pictures(folder, "stem")
    assert pictures.find("b") == ((folder / "deep/b.png").read_bytes(), 2)
    (folder / "deep/b.png").unlink()
    with pytest.raises(PictureRefused, match="not there any more"):
        pictures.find("b")
    (folder / "new.png").write_bytes(encoded(".png"))
    assert pictures.find("new") is None  # the list is made anew now and then, not for every strange key
    now[0] += 31
    assert pictures.find("new") is not None
    assert pictures.find("b") is None


def test_a_folder_that_cannot_be_listed_is_told_at_the_start_or_in_the_log(
    mounts: Mounts, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no folder"):
        Pictures(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="unknown"):
        Pictures(folder, "no-rule")
    (folder / "deep/a.png").write_bytes(encoded(".png"))
    twice = Pictures(folder, "stem")
    with pytest.raises(UsageError, match="more than one picture"):
        twice.list()
    with serve(mounts, {"s": twice}) as web:
        assert web.get(URL + "a").status_code == 404
    with pytest.raises(UsageError, match="not served"):
        pictures_extension(Settings(), mounts, {"other": Pictures(folder)})


def test_the_key_rule_is_that_of_the_store(folder: Path, mounts: Mounts) -> None:
    manifest: Manifest = mounts["s"].manifest
    assert Pictures.of(folder, manifest).find("deep/b") is not None
    assert Pictures(folder, "name").find("b.png") is not None
    assert Pictures(folder, "stem").find("b") is not None
