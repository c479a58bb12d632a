"""What formats have in common that are a folder of one file per picture: listing, numbers, identity, delivery.

Pictures are numbered in the order of their names. Only the names are held in memory; files are read one at a time. A
written folder takes its name when all of it is on the disk, and an export that was killed goes on.
"""

from __future__ import annotations

import hashlib
import stat
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import ClassVar

from featx.errors import FeatxError, UsageError
from featx.formats.base import Format, Item, Survey, item_of
from featx.formats.folders.draft import drafted_folder, walk
from featx.formats.identity import file_facts
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.records import Records
from featx.formats.values.npy import LIMIT
from featx.record import Record

_TRIED = 16  # files that are looked at to know the format
_SAMPLES = 64  # pictures whose content is part of the identity
_LONGEST_NAME = 250  # bytes; file systems take 255, and some files have longer endings


class PictureFolder(Format):
    """A folder of one file per picture, or of a few that belong together.

    ending: of the file that stands for a picture; what is before it is the name of the picture. nested: whether names
    have slashes, which are folders in the folder. sized: whether the sizes of the pictures must be told. each: how many
    files a picture is written to.
    """

    resumes = True
    ending: ClassVar[str]
    each: ClassVar[int] = 1
    nested: ClassVar[bool] = False
    sized: ClassVar[bool] = False

    @abstractmethod
    def fits(self, place: Path) -> bool:
        """Whether a file with the ending is one of this format. May raise ValueError or OSError for no."""

    @abstractmethod
    def load(self, root: Path, name: str, size: tuple[int, int] | None, options: Options) -> Record:
        """The record of the picture ``name`` below ``root``. Raises ValueError, OSError or FeatxError.

        size: (height, width) that was told; never None when ``sized``.
        """

    @abstractmethod
    def files(self, key: str, record: Record) -> Iterator[tuple[str, bytes]]:
        """The ``each`` files of a picture, as names within the folder and their content."""

    def root(self, path: Path) -> Path:
        """The folder in ``path`` that is listed. Raises UsageError when there is none."""
        return path

    def names(self, root: Path) -> list[str]:
        """Names of all pictures below ``root``, sorted."""
        return sorted(name.removesuffix(self.ending) for name in self.listed(root))

    def places(self, root: Path, name: str) -> list[Path]:
        """The files that :meth:`load` reads."""
        return [root / (name + self.ending)]

    def ours(self, name: str) -> bool:
        """Whether an existing file, by its name within the folder, may go when the folder is written anew."""
        return name.endswith(self.ending)

    def need(self, path: Path, options: Options) -> None:
        """Raise UsageError when an option is missing that every picture needs, besides the sizes of ``sized``."""

    def check(self, records: Records) -> None:
        """Raise UsageError for records that the format cannot hold."""

    def name_of(self, key: str, records: Records) -> str:
        """What the picture is called in the folder. Raises UsageError for a key that makes no name of a file."""
        parts = key.split("/") if self.nested else [key]
        if any((part in ("", ".", "..") and self.nested) or "/" in part for part in parts):
            raise UsageError(f"the key {key!r} cannot be the name of a file", "export another format, or other --keys")
        if max(len(f"{part}{self.ending}".encode()) for part in parts) > _LONGEST_NAME:
            raise UsageError(f"the key {key[:80]!r} is longer than the name of a file can be", "export another format")
        return key

    def listed(self, root: Path) -> Iterator[str]:
        """Names of the files with the ending, in no order."""
        return walk(root, self.ending, nested=self.nested)

    def detect(self, path: Path) -> bool:
        with suppress(OSError, FeatxError):
            root = self.root(path)
            return root.is_dir() and any(_fits(self, root / name) for name in islice(self.listed(root), _TRIED))
        return False

    def survey(self, path: Path, options: Options) -> Survey:
        self.need(path, options)
        root = _root(self, path)
        names = self.names(root)
        step, size, digest = max(len(names) // _SAMPLES, 1), 0, hashlib.sha256()
        for number, name in enumerate(names):
            for place in self.places(root, name):
                length = _length(place)
                digest.update(f"{name}\0{length}\0".encode(errors="surrogateescape"))
                size += max(length, 0)
                if number % step == 0 and length >= 0:
                    with suppress(OSError):  # told when it is read
                        digest.update(file_facts(place)["sha256"].encode())
        of = f"names, lengths and {_SAMPLES} pictures"
        return Survey(len(names), {"sha256": digest.hexdigest(), "of": of, "files": len(names), "bytes": size})

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        self.need(path, options)
        sizes = Sizes.of(options)
        if self.sized:
            sizes.must(path)
        root = _root(self, path)
        for number, name in islice(enumerate(self.names(root)), start, None):
            yield self._item(root, number, name, options, sizes)

    def _item(self, root: Path, number: int, name: str, options: Options, sizes: Sizes) -> Item:
        def record(key: str) -> Record:
            return self.load(root, name, sizes.need(key) if self.sized else sizes.find(key), options)

        place = f"file {name}{self.ending}".encode(errors="backslashreplace").decode()
        return item_of(number, place, lambda: key_of(name, options), record, (TypeError, OSError))

    def write(self, records: Records, path: Path, options: Options) -> int:
        self.check(records)
        for key in records.keys():  # noqa: SIM118  iterating over them reads them
            self.name_of(key, records)
        with drafted_folder(records, self.name, path, self.ours) as folder:
            done, begun = divmod(folder.count, self.each)  # pictures, and files of the next
            for key, record in records.after(done):
                for name, written in islice(self.files(self.name_of(key, records), record), begun, None):
                    folder.add(name, written)
                begun = 0
        return len(records)


def content(place: Path) -> bytes:
    """The bytes of a file. Raises ValueError for what is too long to be of one picture, or no regular file."""
    length = _length(place)
    if not 0 <= length <= LIMIT:
        said = f"{length:,} bytes, more than the {LIMIT:,} of a picture" if length > 0 else "no file that can be read"
        raise ValueError(f"{place.name} is {said}")
    return place.read_bytes()


def _root(form: PictureFolder, path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path} is no folder; {form.title} is one", "give the folder that the files are in")
    return form.root(path)


def _fits(form: PictureFolder, place: Path) -> bool:
    with suppress(ValueError, OSError, FeatxError):
        return form.fits(place)
    return False


def _length(place: Path) -> int:
    """Bytes of a file; -1 for what is none, as a pipe or a link to nothing."""
    try:
        found = place.stat()
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1
