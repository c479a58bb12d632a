"""An export to a file of lines or to a folder: it takes its name whole, and one that was killed goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from featx.errors import UsageError
from featx.formats.identity import file_facts
from featx.formats.records import Records
from featx.store import disk

_BLOCK = 1 << 20


@contextmanager
def drafted_lines(records: Records, name: str, path: Path) -> Iterator[tuple[BinaryIO, Records]]:
    """A file for one line per record that gets the name ``path`` when the body is through, and the records to write.

    Those come first whose lines an earlier export, the same in all that decides a byte, left behind when it was killed
    or interrupted: they are passed over, and the file stands behind their lines. name: of the format. What is there and
    is no regular file, a pipe or /dev/stdout, is written to directly. Raises UsageError while another process writes
    the same file, and for what cannot be written.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as file:
            yield file, records
        return
    path = path.resolve()  # a link stays one: what it points to is replaced
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "give the name of a file to write")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}", "make the folder first")
    with drafted(records, name, path) as draft:
        with draft.open("r+b" if draft.exists() else "x+b") as file:
            yield file, records.after(_whole_lines(file))
        disk.settle(path)


@contextmanager
def drafted(records: Records, name: str, path: Path) -> Iterator[Path]:
    """Where an export to ``path``, which is no link, is written before the body gives it that name.

    A file or a folder is there only if the same export left it behind. It is kept when the body is killed, interrupted
    or stopped by the disk, and goes with any other error. Raises UsageError while another process writes to ``path``.
    """
    draft, note = disk.temporary(path), note_of(path)
    with disk.room(path.parent), held(note, path) as handle:
        facts = export_facts(records, name)
        if not (draft.exists() and _read(handle) == facts):
            discard(draft)
            os.ftruncate(handle, 0)
            os.pwrite(handle, facts, 0)
        try:
            yield draft
        except OSError:  # a full disk, say: there is something to go on with
            raise
        except Exception:
            discard(draft)
            note.unlink()
            raise
        note.unlink()


def discard(draft: Path) -> None:
    """Remove a file or a folder with all that is in it; one that is not there is as good."""
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


def begun(records: Records, name: str, path: Path) -> bool:
    """Whether this very export to ``path`` was begun and has not ended. name: of the format."""
    with suppress(OSError):
        return note_of(path.resolve()).read_bytes() == export_facts(records, name)
    return False


def note_of(path: Path) -> Path:
    """The file beside an export that says what it is of, and is locked while it is written."""
    return path.with_name(f".{path.name}.export")


def _whole_lines(file: BinaryIO) -> int:
    """Count the lines that have an end, cut off what is behind them, and stand there."""
    count = end = place = 0
    while block := file.read(_BLOCK):
        if lines := block.count(b"\n"):
            count, end = count + lines, place + block.rindex(b"\n") + 1
        place += len(block)
    file.truncate(end)
    file.seek(end)
    return count


def export_facts(records: Records, name: str) -> bytes:
    """All that decides what an export writes, and whether what it wrote is still what was written."""
    keys = hashlib.sha256()
    for key in records.keys():  # noqa: SIM118  iterating over them reads them
        keys.update(key.encode() + b"\0")
    totals, ids = records.store.manifest.totals, records.options.ids
    facts: dict[str, Any] = {
        "format": name,
        "store": totals.digest if totals else os.urandom(8).hex(),  # one that may grow is begun anew
        "keys": keys.hexdigest(),
        "ids": file_facts(Path(ids)) if Path(ids).is_file() else ids,
        "since": _started(),
    }
    return json.dumps(facts, sort_keys=True).encode()


def _started() -> str:
    """When this machine was started: lines are synced at the end only, so a power cut may have lost some of them."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return os.urandom(8).hex()


@contextmanager
def held(note: Path, path: Path) -> Iterator[int]:
    """The open note, locked: one process exports to a name at a time. Raises UsageError for the second."""
    while True:
        try:
            handle = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", "choose another place") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{path} is being written by another process", "wait for it, or stop it") from None
            if _is(handle, note):  # not one that its holder removed meanwhile
                yield handle
                return
        finally:
            os.close(handle)


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _read(handle: int) -> bytes:
    return os.pread(handle, 1 << 16, 0)
