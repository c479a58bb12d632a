"""Exports that begin anew: one process at a time, whole or not at all, and nothing is left behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featx.cli import main
from featx.errors import FeatxError, UsageError
from featx.formats import FORMATS, Format, Options, Records, detect, get
from featx.formats.publish import published_file, published_folder
from featx.record import Record
from featx.store import disk, open_store
from tests.forked import in_child
from tests.test_formats_convert import make_store

WRITERS = [name for name in FORMATS if get(name).writes]


class Paused(Records):
    """Records of which the last is not given before something was done."""

    def __init__(self, store: Path, then: Iterator[None]) -> None:
        super().__init__(open_store(store))
        self._then = then

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        for number, each in enumerate(super().__iter__()):
            if number == len(self) - 1:
                next(self._then, None)
            yield each


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("publish") / "store", 5)


@pytest.mark.parametrize("name", WRITERS)
def test_a_second_export_to_one_name_is_refused_and_the_first_is_whole(tmp_path: Path, store: Path, name: str) -> None:
    form, out = get(name), tmp_path / "out"
    refused: list[str] = []

    def another() -> Iterator[None]:
        with open_store(store) as reader, pytest.raises(UsageError, match="being written by another process") as caught:
            form.write(Records(reader), out, Options())
        refused.append(caught.value.message)
        yield

    assert form.write(Paused(store, another()), out, Options()) == 5
    assert refused
    assert detect(out) == [form]
    assert not hidden(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_killed_export_leaves_is_gone_after_the_next(tmp_path: Path, store: Path, name: str) -> None:
    """In a process of its own, which is killed before its last record."""
    form, out = get(name), tmp_path / "out"

    def end() -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield

    assert in_child(lambda: form.write(Paused(store, end()), out, Options())) == -signal.SIGKILL
    assert not out.exists()
    with open_store(store) as reader:
        assert form.write(Records(reader), out, Options()) == 5
    assert detect(out) == [form]
    assert not hidden(tmp_path)


def hidden(folder: Path) -> list[str]:
    return [place.name for place in folder.iterdir() if place.name.startswith(".")]


class Killed(disk.Disk):
    """The process ends before the n-th renaming."""

    def __init__(self, after: int) -> None:
        self.left = after

    def rename(self, source: Path, target: Path) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().rename(source, target)


@pytest.mark.parametrize("after", [0, 1])
def test_between_the_old_folder_and_the_new_neither_is_lost(tmp_path: Path, after: int) -> None:
    out = tmp_path / "out"

    def export(content: str) -> None:
        with published_folder(out, lambda name: name == "a") as folder:
            (folder / "a").write_text(content)

    export("old")
    with pytest.raises(KeyboardInterrupt), disk.using(Killed(after)):
        export("new")
    kept = out if after == 0 else tmp_path / ".out.old"
    assert (kept / "a").read_text() == "old"
    with pytest.raises(ZeroDivisionError), published_folder(out, lambda name: name == "a"):
        raise ZeroDivisionError
    assert (out / "a").read_text() == "old"
    export("newer")
    assert (out / "a").read_text() == "newer"
    assert not hidden(tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(UsageError, match="holds mine"), published_folder(tmp_path / "out", lambda name: name == "a"):
        pass
    assert (tmp_path / "out" / "mine").exists()


@pytest.mark.parametrize("name", ["webdataset", "volta-hdf5", "vilbert-lmdb", "self-critical"])
def test_a_pipe_is_not_replaced_by_what_cannot_go_through_one(tmp_path: Path, store: Path, name: str) -> None:
    os.mkfifo(tmp_path / "out")
    with open_store(store) as reader, pytest.raises(UsageError):
        get(name).write(Records(reader), tmp_path / "out", Options())
    assert (tmp_path / "out").is_fifo()
    assert not hidden(tmp_path)


def test_a_folder_that_comes_back_behind_a_kill_is_asked_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "mine").write_text("old")
    with pytest.raises(UsageError, match="holds mine"), published_folder(tmp_path / "out", lambda name: name == "a"):
        pass
    with pytest.raises(UsageError, match="is a folder"), published_file(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "mine").read_text() == "old"


def test_the_row_counts_of_uniter_come_first_and_a_killed_export_is_run_again(tmp_path: Path, store: Path) -> None:
    """Killed between the two: the command does not take its own counts for those of somebody else."""
    out, counts = tmp_path / "feat_th0.2_max100_min10", tmp_path / "nbb_th0.2_max100_min10.json"

    def export() -> None:
        with open_store(store) as reader, disk.using(Dies(out)):
            get("uniter-lmdb").write(Records(reader), out, Options())

    assert in_child(export) == -signal.SIGKILL
    assert len(json.loads(counts.read_text())) == 5
    assert not out.exists()
    assert main(["convert", str(store), str(out), "--to", "uniter-lmdb", "--quiet"]) == 0
    assert out.is_dir()
    assert not hidden(tmp_path)


class Dies(disk.Disk):
    """The process is killed when something is to get the name ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def rename(self, source: Path, target: Path) -> None:
        if target == self.target:
            os.kill(os.getpid(), signal.SIGKILL)
        super().rename(source, target)


def test_an_environment_that_cannot_be_opened_leaves_nothing(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*told: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, open_store(store) as reader:
        patch.setattr("featx.formats.lmdb.write.lmdb.open", full)
        with pytest.raises(FeatxError, match="No space left"):
            get("vilbert-lmdb").write(Records(reader), tmp_path / "out", Options())
    assert not list(tmp_path.iterdir())


def test_files_beside_are_kept_though_another_export_to_the_name_was_killed(tmp_path: Path) -> None:
    store, out = make_store(tmp_path / "store", 2000, rows=36), tmp_path / "features.tsv"
    label = tmp_path / "label.tsv"
    label.write_text("mine")
    child = subprocess.Popen([sys.executable, "-m", "featx", "convert", str(store), str(out), "--quiet"])
    while child.poll() is None and not (tmp_path / ".features.tsv.tmp").exists():
        time.sleep(0.001)
    child.kill()
    child.wait()
    out.unlink(missing_ok=True)
    assert main(["convert", str(store), str(out), "--to", "oscar-tsv", "--quiet"]) == 2
    assert label.read_text() == "mine"


def test_the_contract_says_whether_an_export_goes_on() -> None:
    assert {name for name in WRITERS if get(name).resumes} == {
        "lxmert-tsv", "butd-tsv", "oscar-tsv", "vinvl-tsv", "bua-npz", "uniter-npz", "mmf-npy", "self-critical",
        "grid-feats-pth",
    }  # fmt: skip
    assert not Format.resumes
