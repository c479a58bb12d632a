"""An export that begins anew each time: a file or a folder that takes its name whole, by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from featx.delivery import delivery
from featx.errors import UsageError
from featx.formats.draft import discard, held, note_of
from featx.store import disk


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Where a file is written that gets the name ``path``, synced, when the body is through; nothing is there yet.

    Raises UsageError for what is there and is no file, and while another process writes to ``path``.
    """
    path = path.resolve()  # a link stays one: what it points to is replaced
    with _alone(path, _no_folder) as draft:
        yield draft
        disk.settle(path)


@contextmanager
def published_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, as :func:`published`; a pipe, or what else is there and no file, is written to directly."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        with delivery(str(path)) as file:
            yield file
        return
    with published(path) as draft, draft.open("xb") as file:
        yield file


@contextmanager
def published_folder(path: Path, ours: Callable[[str], bool], facts: bytes = b"") -> Iterator[Path]:
    """An empty folder that gets the name ``path``, with every file in it synced, when the body is through.

    What had that name goes then: a file, or a folder of nothing but files whose names are ``ours``. facts: of this
    export, for what makes files beside it; see :func:`featx.formats.draft.begun`. Raises UsageError for anything else
    that is there, before the body, and while another process writes to ``path``.
    """

    def replaceable(path: Path) -> None:
        if path.is_dir() and (other := next((place for place in path.iterdir() if not ours(place.name)), None)):
            raise UsageError(f"{path} holds {other.name}, which is no part of such a folder", "choose another name")

    path = path.resolve()  # a link stays one: what it points to is replaced
    with _alone(path, replaceable, facts) as draft:
        draft.mkdir()
        yield draft
        for place in draft.iterdir():
            disk.sync(place)
        disk.sync(draft)
        take_place(draft, path)


def take_place(draft: Path, target: Path) -> None:
    """Give a folder its name. What had it is removed only then; a kill in between leaves it as ``.NAME.old``."""
    old = _old(target)
    if target.exists():
        discard(old)
        disk.rename(target, old)
    disk.move(draft, target)
    discard(old)


def _no_folder(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "give the name of a file to write")


@contextmanager
def _alone(path: Path, check: Callable[[Path], None], facts: bytes = b"") -> Iterator[Path]:
    """The temporary name of ``path``, at which nothing is; what is there when the body ends with an error goes.

    check: raises UsageError for what may not be replaced. It is asked before anything is touched.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}", "make the folder first")
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device must not be renamed
        raise UsageError(f"{path} is neither a file nor a folder", "give the name of a file or a folder to write")
    check(path)
    draft, note = disk.temporary(path), note_of(path)
    with disk.room(path.parent), held(note, path) as handle:
        os.ftruncate(handle, 0)  # whatever an export that can go on left behind, this is another one
        os.pwrite(handle, facts, 0)
        discard(draft)
        try:
            _restore(path)
            check(path)
            yield draft
        finally:
            discard(draft)
            note.unlink(missing_ok=True)


def _restore(path: Path) -> None:
    """Give a folder its name again when an export was killed between taking it away and putting another there."""
    if not path.exists() and _old(path).exists():
        disk.rename(_old(path), path)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
