"""Folders of many files: walked, and written so that they appear whole, and go on where they were killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from featx.errors import UsageError
from featx.formats.draft import drafted
from featx.formats.publish import take_place
from featx.formats.records import Records
from featx.store import disk

_PART = ".part"  # in a draft: the file that is being written


def walk(root: Path, ending: str, *, nested: bool) -> Iterator[str]:
    """Names of the files below a folder that end in ``ending``, as paths within it; links are followed, not in circles.

    Raises UsageError for a folder that cannot be listed.
    """
    yield from _walk(root, "", ending, nested, set())


def _walk(root: Path, prefix: str, ending: str, nested: bool, above: set[tuple[int, int]]) -> Iterator[str]:
    try:
        own = root.stat()
        inner = []
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.is_dir():
                    inner.append(entry.name)
                elif entry.name.endswith(ending) and len(entry.name) > len(ending):
                    yield prefix + entry.name
    except OSError as error:
        raise UsageError(f"{root} cannot be listed: {error.strerror}", "give a folder of files") from None
    here = (own.st_dev, own.st_ino)
    for name in inner if nested and here not in above else ():
        yield from _walk(root / name, f"{prefix}{name}/", ending, nested, above | {here})


class Draft:
    """A folder that has not got its name yet.

    count: of the files that were in it when it was opened, all of them whole. It is begun anew when not all are
    ``ours``, by their names within it.
    """

    def __init__(self, place: Path, ours: Callable[[str], bool]) -> None:
        self._place = place
        place.mkdir(exist_ok=True)
        (place / _PART).unlink(missing_ok=True)
        self.count = 0
        for name in walk(place, "", nested=True):
            if not ours(name):
                shutil.rmtree(place)
                place.mkdir()
                self.count = 0
                return
            self.count += 1

    def add(self, name: str, content: bytes) -> None:
        """A file, by its name within the folder; it is there whole or not at all, as long as the machine runs.

        Raises UsageError for a name that another file has, or that needs a folder where a file is.
        """
        place = self._place / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            taken = place.exists()
        except (FileExistsError, NotADirectoryError):
            taken = True
        if taken:
            raise UsageError(
                f"the file {name} of a picture would have the name of another", "write some of them with --keys"
            )
        (self._place / _PART).write_bytes(content)
        disk.rename(self._place / _PART, place)

    def sync(self) -> None:
        """Make all files and their names durable."""
        for folder, _, names in os.walk(self._place):
            for name in names:
                disk.sync(Path(folder, name))
            disk.sync(Path(folder))


@contextmanager
def drafted_folder(records: Records, name: str, path: Path, ours: Callable[[str], bool]) -> Iterator[Draft]:
    """A folder that gets the name ``path`` when the body is through, with all in it on the disk.

    In it are the files that an earlier export, the same in all that decides a byte, left behind when it was killed or
    interrupted. name: of the format. A folder that has the name is replaced if all files in it are ``ours``, by their
    names within it. Raises UsageError for any other, and for a file, before the body.
    """
    target = path.resolve()  # a link stays one: what it points to is replaced
    if target.exists() and not target.is_dir():
        raise UsageError(f"{path} is a file, expected the name of a folder", "choose another name")
    there = walk(target, "", nested=True) if target.exists() else iter(())
    if other := next((name for name in there if not ours(name)), None):
        raise UsageError(f"{path} holds {other}, which is no part of such a folder", "choose another name")
    with drafted(records, name, target) as place:
        draft = Draft(place, ours)
        yield draft
        draft.sync()
        take_place(place, target)
