"""An export of lines that was killed goes on; what comes out is what an undisturbed one writes."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featx.errors import FeatxError, UsageError
from featx.formats import Options, Records
from featx.formats.draft import drafted_lines
from featx.store import open_store
from tests.test_formats_convert import PICTURES, make_store

Stop = Callable[[int], None]


class Crash(BaseException):
    """The process ends here."""


def export(store: Path, out: Path, stop: Stop = lambda number: None, options: Options | None = None) -> list[str]:
    """A line for each record with all its numbers. Returns the keys that were written now."""
    written: list[str] = []
    with open_store(store) as reader, drafted_lines(Records(reader, options), "lines", out) as (file, records):
        for key, record in records:
            stop(len(written))
            file.write(f"{key} {record.features.tobytes().hex()}\n".encode())
            written.append(key)
    return written


def after(count: int, error: BaseException) -> Stop:
    def stop(number: int) -> None:
        if number == count:
            raise error

    return stop


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("draft") / "store")


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "out.txt"
    export(store, out)
    return out.read_bytes()


@pytest.mark.parametrize("error", [Crash(), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=repr)
@pytest.mark.parametrize("tail", [b"", b"105 00ff"])
def test_an_export_goes_on_behind_its_last_whole_line(
    tmp_path: Path, store: Path, whole: bytes, error: BaseException, tail: bytes
) -> None:
    out = tmp_path / "out.txt"
    with pytest.raises((Crash, KeyboardInterrupt, FeatxError)):
        export(store, out, after(5, error))
    assert not out.exists()
    with (tmp_path / ".out.txt.tmp").open("ab") as draft:
        draft.write(tail)
    assert len(export(store, out)) == PICTURES - 5
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_progress_counts_what_an_earlier_export_wrote(tmp_path: Path, store: Path) -> None:
    with pytest.raises(Crash):
        export(store, tmp_path / "out.txt", after(7, Crash()))
    ticks: list[int] = []
    with (
        open_store(store) as reader,
        drafted_lines(Records(reader, None, ticks.append), "lines", tmp_path / "out.txt") as (file, records),
    ):
        file.writelines(f"{key}\n".encode() for key, _ in records)
    assert (ticks[0], sum(ticks)) == (7, PICTURES)


def test_an_export_of_anything_else_begins_anew(tmp_path: Path, store: Path, whole: bytes) -> None:
    out, keys = tmp_path / "out.txt", tmp_path / "keys"
    keys.write_text("103\n101\n")
    other = make_store(tmp_path / "other", PICTURES - 1)
    for source, options in ((other, None), (store, Options(keys=str(keys))), (store, Options(ids="digits"))):
        with pytest.raises(Crash):
            export(source, out, after(1, Crash()), options)
        assert len(export(store, out)) == PICTURES
        assert out.read_bytes() == whole
        out.unlink()


def test_an_export_that_is_wrong_leaves_nothing(tmp_path: Path, store: Path) -> None:
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(UsageError):
        export(store, tmp_path / "out.txt", after(3, UsageError("no", "")))
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == "old"


def test_two_exports_to_one_name_do_not_meet(tmp_path: Path, store: Path, whole: bytes) -> None:
    out = tmp_path / "out.txt"

    def another(number: int) -> None:
        if number == 3:
            with pytest.raises(UsageError, match="being written by another process"):
                export(store, out)

    export(store, out, another)
    assert out.read_bytes() == whole


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path: Path, store: Path, whole: bytes) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "far" / "out.txt")
    export(store, tmp_path / "link.txt")
    assert (tmp_path / "far" / "out.txt").read_bytes() == whole
    assert (tmp_path / "link.txt").is_symlink()
    assert len(export(store, Path("/dev/null"))) == PICTURES


def test_a_killed_export_of_the_command_goes_on(tmp_path: Path) -> None:
    """With SIGKILL, at moments that fall where they fall, until it is through."""
    store, words = make_store(tmp_path / "store", 2000, rows=36), ["--to", "lxmert-tsv", "--quiet"]
    command = [sys.executable, "-m", "featx", "convert", str(store)]
    subprocess.run([*command, str(tmp_path / "whole.tsv"), *words], check=True, capture_output=True)
    draft, lengths = tmp_path / ".out.tsv.tmp", [0]
    for _ in range(3):
        child = subprocess.Popen([*command, str(tmp_path / "out.tsv"), *words])
        while child.poll() is None and (not draft.exists() or draft.stat().st_size <= lengths[-1]):
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        lengths.append(draft.stat().st_size if draft.exists() else lengths[-1])
    assert lengths[1] > 0, "killed while it wrote"
    subprocess.run([*command, str(tmp_path / "out.tsv"), *words], check=True, capture_output=True)
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
