"""The client and the server of the package, as people use them: one process serves, another reads, trains and looks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from featx.cli import main
from featx.errors import KeyNotFound, StoreError, UsageError
from featx.loading import FeatureLoader
from featx.store import open_store
from tests.store_oracle import FIXED, SCHEMA, make_store, names
from tests.test_gather import assert_same
from tests.toy_task import kinds, trained
from tests.toy_task import make_store as make_toys

COUNT = 40
TOKEN = "sesame-open-yourself-23"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("served")
    make_store(base / "varying.featx", "lmdb", COUNT, parts=3, schema=SCHEMA)
    make_store(base / "fixed.featx", "hdf5", COUNT, schema=FIXED)
    make_toys(base / "toys.featx")
    return base


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The beginning of the URLs of a running server, which wants a token."""
    command = [
        sys.executable,
        "-m",
        "featx",
        "serve",
        *sorted(map(str, folder.glob("*.featx"))),
        "--port",
        "0",
        "--json",
    ]
    environment = {**os.environ, "FEATX_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"].rstrip("/")
        finally:
            server.terminate()
            server.stdout.read()
    assert server.returncode == 0


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATX_TOKEN", TOKEN)


@pytest.mark.parametrize("name", ["varying", "fixed"])
def test_all_that_is_read_is_what_the_folder_holds(folder: Path, url: str, name: str) -> None:
    with open_store(folder / f"{name}.featx") as here, open_store(f"{url}/{name}") as there:
        keys = list(here)
        assert (len(there), list(there), list(there.keys("source"))) == (len(here), keys, list(here.keys("source")))
        assert list(there.failures()) == list(here.failures())
        assert there.parts == here.parts
        assert there.manifest == here.manifest
        assert all(there[key] == here[key] for key in keys)
        some = [*keys[::-2], keys[3], *keys[1::2]]
        assert_same(there.get_batch(some), here.get_batch(some))
        np.testing.assert_array_equal(there.row_counts(some), here.row_counts(some))
        for loader in zip(FeatureLoader(there, batch=7, seed=1), FeatureLoader(here, batch=7, seed=1), strict=True):
            assert_same(*loader)


def test_what_is_not_there_is_told_as_by_the_folder(folder: Path, url: str) -> None:
    with open_store(folder / "varying.featx") as here, open_store(f"{url}/varying") as there:
        for key in ("nobody", names(7)[6], names(1)[0][:-2]):
            found = []
            for store in (here, there):
                with pytest.raises(KeyNotFound) as caught:
                    store.get_batch([names(1)[0], key])
                found.append(caught.value)
                assert key not in store
            assert found[0].message == found[1].message
            assert found[0].hint.replace("STORE", f"{url}/varying") == found[1].hint.replace("STORE", f"{url}/varying")
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(f"{url}/nothing")
    with pytest.raises(UsageError, match="refuses the token"):
        open_store(f"{url}/fixed", token="another")


def test_a_task_trains_from_a_url_as_from_the_folder(folder: Path, url: str, tmp_path: Path) -> None:
    for name, store in (("folder", folder / "toys.featx"), ("url", f"{url}/toys"),
                        ("kept", {"path": f"{url}/toys", "cache": str(tmp_path / "records")})):  # fmt: skip
        trained(store, tmp_path / name, epochs=2)  # type: ignore[arg-type]
    losses = {name: [event["loss"] for event in kinds(tmp_path / name, "epoch")] for name in ("folder", "url", "kept")}
    assert losses["url"] == losses["folder"] == losses["kept"]
    models = {name: (tmp_path / name / "final/model.safetensors").read_bytes() for name in losses}
    assert len(set(models.values())) == 1
    assert list((tmp_path / "records").rglob("*.records"))


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--keys"], ["inspect", "--failures"], ["inspect", "KEY"],
                                     ["get", "KEY", "--json"], ["stats", "--quiet"]], ids=" ".join)  # fmt: skip
def test_commands_say_of_a_url_what_they_say_of_the_folder(
    folder: Path, url: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for place in (str(folder / "varying.featx"), f"{url}/varying"):
        words = [names(1)[0] if word == "KEY" else word for word in command]
        assert main([words[0], place, *words[1:]]) == 0
        told.append(capsys.readouterr().out.replace(place, "STORE"))
    assert told[0].split() == told[1].split()


@pytest.mark.parametrize("command", ["verify", "convert"])
def test_what_needs_the_folder_says_so(
    url: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, f"{url}/varying", *([str(tmp_path / "out.npz")] if command == "convert" else [])]
    assert main(words) in (2, 4)
    assert "the folder of a store" in capsys.readouterr().err


def test_a_key_that_a_store_had_before_it_was_replaced_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """Where a record is asked for alone, and where it is only asked whether it is there."""
    make_store(tmp_path / "s", "lmdb", 9)
    make_store(tmp_path / "new", "lmdb", 3)
    last = names(9)[-1]
    command = [sys.executable, "-m", "featx", "serve", str(tmp_path / "s"), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            with open_store(json.loads(server.stdout.readline())["url"]) as store:
                assert "nobody" not in store
                (tmp_path / "s").rename(tmp_path / "old")
                (tmp_path / "new").rename(tmp_path / "s")
                time.sleep(1.2)  # the server looks once a second
                with pytest.raises(StoreError, match="was replaced"):
                    store[last]
                with pytest.raises(StoreError, match="was replaced"):
                    assert last in store
        finally:
            server.terminate()
