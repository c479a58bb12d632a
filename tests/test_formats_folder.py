"""An export to a folder appears whole or not at all, and goes on where it was killed."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from featx.cli import main
from featx.errors import FeatxError, UsageError
from featx.formats import FORMATS, Options, Records, get
from featx.formats.draft import drafted
from featx.formats.folders.draft import Draft
from featx.formats.folders.pictures import PictureFolder
from featx.store import disk, open_store
from tests.test_formats_convert import make_store

PICTURES = 4
FOLDERS = [name for name in FORMATS if isinstance(get(name), PictureFolder)]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("folder") / "store", PICTURES)


def export(name: str, store: Path, out: Path, options: Options | None = None) -> list[int]:
    """Write the store. Returns how many pictures were passed over and written, one after the other."""
    ticks: list[int] = []
    with open_store(store) as reader:
        assert get(name).write(Records(reader, options, ticks.append), out, Options()) == len(Records(reader, options))
    return ticks


def names(path: Path) -> list[str]:
    return sorted(place.name for place in path.iterdir())


def files(path: Path) -> dict[str, bytes]:
    return {str(place.relative_to(path)): place.read_bytes() for place in path.rglob("*") if place.is_file()}


@contextmanager
def stopped_after(count: int, error: BaseException) -> Iterator[None]:
    """Meanwhile the file behind ``count`` of them cannot be written."""
    add, written = Draft.add, []

    def counting(draft: Draft, name: str, content: bytes) -> None:
        if len(written) == count:
            raise error
        written.append(name)
        add(draft, name, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft, "add", counting)
        with pytest.raises((Killed, KeyboardInterrupt, FeatxError)):
            yield


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_goes_on_behind_the_last_file_that_is_whole(tmp_path: Path, store: Path, name: str) -> None:
    export(name, store, tmp_path / "whole")
    whole, out, form = files(tmp_path / "whole"), tmp_path / "out", get(name)
    assert form.resumes
    each = len(whole) // PICTURES
    for count in range(len(whole)):
        with stopped_after(count, Killed()):
            export(name, store, out)
        assert not out.exists()
        (tmp_path / ".out.tmp" / ".part").write_bytes(b"half of a fi")
        ticks = export(name, store, out)
        assert (ticks[0], len(ticks) - 1) == (count // each, PICTURES - count // each)
        assert files(out) == whole
        assert names(tmp_path) == ["out", "whole"]
        shutil.rmtree(out)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=repr)
def test_an_interruption_or_a_full_disk_leaves_something_to_go_on_with(
    tmp_path: Path, store: Path, error: BaseException
) -> None:
    with stopped_after(3, error):
        export("bua-npz", store, tmp_path / "out")
    assert names(tmp_path) == [".out.export", ".out.tmp"]
    assert export("bua-npz", store, tmp_path / "out") == [3, 1]
    assert names(tmp_path) == ["out"]


def test_an_export_that_is_wrong_leaves_what_was_there_and_nothing_else(tmp_path: Path, store: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.npz").write_bytes(b"old")
    with stopped_after(3, UsageError("no", "")):
        export("bua-npz", store, tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert files(tmp_path / "out") == {"old.npz": b"old"}


def test_an_export_of_anything_else_begins_anew(tmp_path: Path, store: Path) -> None:
    out, keys = tmp_path / "out", tmp_path / "keys"
    keys.write_text("103\n101\n")
    export("bua-npz", store, tmp_path / "whole")
    other = make_store(tmp_path / "other", PICTURES - 1)
    cases: list[tuple[str, Path, Options | None]] = [
        ("bua-npz", other, None), ("bua-npz", store, Options(keys=str(keys))), ("mmf-npy", store, None),
        ("self-critical", store, None), ("lxmert-tsv", store, None),
    ]  # fmt: skip
    for name, source, options in cases:
        if name == "lxmert-tsv":  # whose draft is a file
            with pytest.raises(Killed), open_store(store) as reader:
                write_file(Records(reader), out)
        else:
            with stopped_after(1, Killed()):
                export(name, source, out, options)
        assert export("bua-npz", store, out) == [0, *[1] * PICTURES], name
        assert files(out) == files(tmp_path / "whole")
        shutil.rmtree(out)


def write_file(records: Records, out: Path) -> None:
    with drafted(records, "lxmert-tsv", out) as place:
        place.write_text("begun")
        raise Killed


def test_what_others_put_into_a_draft_is_no_part_of_the_folder(tmp_path: Path, store: Path) -> None:
    with stopped_after(2, Killed()):
        export("bua-npz", store, tmp_path / "out")
    (tmp_path / ".out.tmp" / "notes.txt").touch()
    assert export("bua-npz", store, tmp_path / "out") == [0, *[1] * PICTURES]
    assert sorted(files(tmp_path / "out")) == ["100.npz", "101.npz", "102.npz", "103.npz"]


def test_no_file_takes_the_name_of_another_also_behind_a_kill(tmp_path: Path) -> None:
    place = tmp_path / "draft"
    Draft(place, lambda name: True).add("a", b"1")
    for draft in (Draft(place, lambda name: True), Draft(place, lambda name: True)):
        for name in ("a", "a/b", "a/b/c", "./a"):
            with pytest.raises(UsageError, match=f"the file {name} of a picture would have the name of another"):
                draft.add(name, b"2")
        assert draft.count == 1
    assert files(place) == {"a": b"1"}


@pytest.mark.parametrize("name", ["self-critical", "grid-feats-pth"])
def test_two_keys_with_one_number_are_refused_before_anything_is_written(
    tmp_path: Path, store: Path, name: str
) -> None:
    (tmp_path / "ids.json").write_text('{"100": 1, "101": 2, "102": 3, "103": 2}')
    with pytest.raises(UsageError, match="'101' and '103' both become 2"):
        export(name, store, tmp_path / "out", Options(ids=str(tmp_path / "ids.json")))
    assert names(tmp_path) == ["ids.json"]


def test_two_exports_to_one_name_do_not_meet(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, seen = Draft.add, []

    def another(draft: Draft, name: str, content: bytes) -> None:
        if not seen:
            seen.append(name)
            with pytest.raises(UsageError, match="being written by another process"):
                export("bua-npz", store, tmp_path / "out")
        add(draft, name, content)

    monkeypatch.setattr(Draft, "add", another)
    assert export("bua-npz", store, tmp_path / "out") == [0, *[1] * PICTURES]
    assert seen == ["100.npz"]


@pytest.mark.parametrize("moved", [False, True])
def test_killed_while_the_folder_gets_its_name_it_goes_on(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    out, move = tmp_path / "out", disk.move
    export("bua-npz", store, out)
    whole = files(out)
    (out / "100.npz").write_bytes(b"old")

    def killed(source: Path, target: Path) -> None:
        if moved:
            move(source, target)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("featx.store.disk.move", killed)
        with pytest.raises(Killed):
            export("bua-npz", store, out)
    assert files(tmp_path / ".out.old")["100.npz"] == b"old"
    assert out.exists() == moved
    assert main(["convert", str(store), str(out), "--to", "bua-npz", "--quiet", *["--overwrite"] * moved]) == 0
    assert files(out) == whole
    assert names(tmp_path) == ["out"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path, store: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "far")
    export("bua-npz", store, tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert len(files(tmp_path / "far")) == PICTURES
    assert names(tmp_path) == ["far", "out"]


def test_a_killed_export_of_the_command_goes_on(tmp_path: Path) -> None:
    """With SIGKILL, at moments that fall where they fall, until it is through."""
    store, words = make_store(tmp_path / "store", 1500), ["--to", "self-critical", "--quiet"]
    command = [sys.executable, "-m", "featx", "convert", str(store)]
    subprocess.run([*command, str(tmp_path / "whole"), *words], check=True, capture_output=True)
    written, counts = tmp_path / ".out.tmp" / "cocobu_fc", [0]
    for _ in range(3):
        child = subprocess.Popen([*command, str(tmp_path / "out"), *words])
        while child.poll() is None and (not written.exists() or len(names(written)) <= counts[-1]):
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        counts.append(len(names(written)) if written.exists() else counts[-1])
    assert 0 < counts[1] < 1500, "killed while it wrote"
    subprocess.run([*command, str(tmp_path / "out"), *words], check=True, capture_output=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
