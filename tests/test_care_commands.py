"""The commands that look after stores as a stranger uses them: wrong places, unfinished stores, Ctrl-C, full bars."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import featx.care
from featx.cli import bar, main
from featx.cli.output import many
from featx.store import create_store, open_part, open_store, verify
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, record_of
from tests.test_care_repair import harm, stored_names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stores: a in three parts, b, unfinished u, damaged d; a list of keys, a file, a folder."""
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "a", "lmdb", 20, parts=3)
    create_store(tmp_path / "b", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "b") as writer:
        for key in ("x", "y"):
            writer.put(key, record_of(key), 0)
        writer.finish()
    create_store(tmp_path / "u", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "u") as writer:
        writer.put("x", record_of("x"), 0)
    shutil.copytree(tmp_path / "a", tmp_path / "d")
    harm(tmp_path / "d", stored_names()[3])
    (tmp_path / "l.txt").write_text("\n".join(stored_names()[:4]))
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_bytes(b"pixels")
    return tmp_path


MISTAKES = {
    "stats none": (4, "no store at"), "stats file": (4, "is a file"), "stats folder": (4, "no manifest.json"),
    "stats a --sample 0": (2, "sample"), "stats d": (4, ""), "diff a none": (4, "no store at"),
    "diff none a": (4, "no store at"), "diff a b": (1, ""), "diff a d": (4, "1 picture damaged, the others are"),
    "diff a a --tolerance nan": (2, "tolerance"), "merge o a": (2, "two or more"), "merge o a a": (2, "two or more"),
    "merge o a none": (4, "no store at"), "merge o a u": (4, "u is unfinished"), "merge a a b": (2, "a is the store"),
    "merge b/o a b": (2, "b/o lies in the store b"), "merge file a b": (2, "file is a file"),
    "merge folder a b": (2, "folder is not empty, and no store"), "merge o d b": (4, "damaged"),
    "split a o --parts 0": (2, "number of parts"), "split a a --parts 2": (2, "the store itself"),
    "split a a/o --parts 2": (2, "lies in the store"), "split none o --parts 2": (4, "no store at"),
    "split u o --parts 2": (4, "u is unfinished"), "split a o --by none.txt": (2, "No such file"),
    "split a o --by folder": (2, "Is a directory"), "split a o --by l.txt l.txt": (2, "one name"),
    "split b o --by l.txt": (2, "lacks 4 of the keys"), "compact a a": (2, "the store itself"),
    "compact a a/o": (2, "lies in the store"), "compact u o": (4, "u is unfinished"),
    "compact a b": (2, "something else"),
    "compact a folder": (2, "not empty"), "compact a o --parts 0": (2, "0 parts"), "compact d o": (4, "damaged"),
    "pull none o": (4, "no store at none"), "pull a b": (2, "different store"), "pull a a": (2, "the store itself"),
    "pull a a/o": (2, "lies in the store"), "pull a folder": (2, "not empty"), "pull a o --parts 9": (2, "no part 9"),
    "pull a o --parts x": (2, "--parts"), "pull a o --jobs 0": (2, "0 files"), "push a o --jobs -1": (2, "-1 files"),
    "push none o": (4, "no store at none"), "push a b": (2, "different store"),
    "push a a": (2, "the store itself"), "push a a/o": (2, "lies in the store"), "push a folder": (2, "not empty"),
    "push d o": (4, "damaged"), "verify none": (4, "no store at"), "verify file": (4, "is a file"), "verify d": (4, ""),
    "verify none --sample 3": (4, "no store at"), "verify a --sample 3 --repair": (2, "one of them"),
    "verify d --sample 100%": (4, "1 damaged"), "verify none --repair": (4, "no store at"),
    "verify a --repair a": (2, "the store itself"), "verify a --repair a/o": (2, "lies in the store"),
    "verify a --repair b": (2, "something else"), "verify none --drop-damaged": (4, "no store at"),
}  # fmt: skip


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_has_its_exit_code_and_a_sentence(here: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    code, sentence = MISTAKES[line]
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(line.split()) == code
    said = capsys.readouterr()
    assert sentence in said.out + said.err
    assert "Traceback" not in said.err
    assert "unexpected" not in said.err
    assert {path: path.read_bytes() for path in before} == before, "nothing that was there has changed"
    assert code != 2 or not (here / "o").exists(), "nothing is begun that cannot be"
    shutil.rmtree(here / "o", ignore_errors=True)
    assert main([*line.split(), "--json"]) == code
    json.loads(capsys.readouterr().out)


class Meter:
    """Stands in for the bar on the terminal."""

    seen: list[Meter] = []  # noqa: RUF012

    def __init__(self, total: int | None, done: int = 0, **more: Any) -> None:
        self.total, self.done, self.most = total, done, done
        self.seen.append(self)

    def advance(self, count: int) -> None:
        self.done += count
        self.most = max(self.most, self.done)

    def close(self) -> None:
        pass


WORKS = {
    "stats a": 0, "stats d": 4, "stats a --sample 5": 0, "stats u": 0, "diff a d": 4, "diff a a --sample 30%": 0,
    "merge o a b": 0, "merge o a b --backend hdf5": 0, "split a o --parts 2": 0, "split a o --parts 3": 0,
    "split a o --by l.txt": 0, "compact a o": 0, "compact b o --parts 3": 0, "compact b o": 0, "pull a o": 0,
    "pull a o --parts 1": 0, "push a o": 0, "push a o --check": 0, "verify a": 0, "verify u": 0, "verify d": 4,
    "verify a --sample 4": 0, "verify d --sample 100%": 4, "verify a --repair": 0, "verify d --repair": 4,
    "verify d --repair o": 4,
}  # fmt: skip


@pytest.mark.parametrize("line", WORKS)
def test_every_bar_ends_full_and_never_runs_over(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(bar, "Progress", Meter)
    for code in (WORKS[line], 0 if line == "verify d --repair" else WORKS[line]):
        monkeypatch.setattr(Meter, "seen", [])
        assert main(line.split()) == code
        for meter in Meter.seen:
            assert meter.total
            assert meter.done == meter.most == meter.total
        assert len(Meter.seen) == 1 + ("d --repair" in line and code == 4), "verified, then written anew"


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_the_bar_of_verify_fits_either_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(bar, "Progress", Meter)
    monkeypatch.setattr(Meter, "seen", [])
    for path in (make_store(tmp_path / "s", backend, 3), make_store(tmp_path / "e", backend, 0)):
        assert main(["verify", str(path)]) == 0
    assert all(meter.done == meter.most == meter.total for meter in Meter.seen)


RESUMED = {
    "merge o a b": "merge", "split a o --parts 2": "split", "compact a o": "compact", "pull a o": "pull",
    "push a o": "push", "verify d --repair": "repair",
}  # fmt: skip


@pytest.mark.parametrize("line", RESUMED)
def test_after_ctrl_c_the_same_command_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    real: Callable[..., Any] = getattr(featx.care, RESUMED[line])

    def pressed(*args: Any, tick: Any, **more: Any) -> Any:
        def interrupt(count: int) -> None:
            raise KeyboardInterrupt

        return real(*args, tick=interrupt, **more)

    monkeypatch.setattr(featx.care, RESUMED[line], pressed)
    assert main([*line.split(), "--quiet"]) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert main([*line.split(), "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["exit_code"] == 130
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main([*line.split(), "--quiet"]) == (4 if "repair" in line else 0)
    made = [path.parent for path in here.glob("o/**/manifest.json")] or [here / "d"]
    for path in made:
        assert verify(path).ok
    found = {key for path in made for key in open_store(path)}
    more = {"x", "y"} if "merge" in line else set()
    assert found == (set(stored_names()) | more) - ({stored_names()[3]} if "repair" in line else set())


def test_ctrl_c_while_a_command_is_loaded_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(chosen: str | None) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("featx.cli.build_parser", pressed)
    assert main(["stats", "s"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_bar_never_runs_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "Progress", Meter)
    shown = bar.Bar(quiet=False)
    shown.begin(100, 10)
    for count in (50, -20, 70):
        shown.tick(count)
    shown.fill()
    assert (Meter.seen[-1].done, Meter.seen[-1].most) == (100, 100)
    unknown = bar.Bar(quiet=False)
    unknown.begin(None)
    unknown.tick(7)
    unknown.fill()
    assert Meter.seen[-1].done == 7


def test_numbers_go_with_their_nouns() -> None:
    assert [many(count, "record") for count in (0, 1, 2, 1234)] == [
        "0 records",
        "1 record",
        "2 records",
        "1,234 records",
    ]
    assert many(2, "picture", "refused") == "2 pictures refused"
