"""One reading of a spec: which files it names, and what was left out on the way."""

from __future__ import annotations

import os
import posixpath
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.images import lists, tree
from featx.images.keys import Found, check_key
from featx.images.source import Blob, filesystem

_COMPRESSED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


@dataclass
class Search:
    """Finds what specs name. ``root``, ``stdin`` and ``image_name`` are those of ``list_pictures``;
    ``skipped`` counts, by reason, the files that were seen and not taken."""

    root: str | None = None
    stdin: Iterable[str] | None = None
    image_name: str | None = None
    skipped: Counter[str] = field(default_factory=Counter)

    def all(self, spec: str | Sequence[str]) -> Iterator[Found]:
        """The pictures of a spec or of several, in order. Raises UsageError for a spec that is not there."""
        for one in [spec] if isinstance(spec, str) else spec:
            if one == "-":
                yield from self._lines()
            else:
                yield from self._url(one) if "://" in one else self._local(one)

    def _local(self, spec: str) -> Iterator[Found]:
        if _exists(spec):  # before globs: a name may have brackets in it
            return self._folder(spec, "**") if Path(spec).is_dir() else self._file(spec)
        if tree.has_magic(spec):
            return self._glob(spec)
        raise UsageError(f"{spec!r} does not exist", "name a file, folder, glob, JSON list, tar, URL, or - for stdin")

    def _file(self, path: str) -> Iterator[Found]:
        if path.endswith(_COMPRESSED):
            raise UsageError(f"{path} is a compressed archive, without access to single files", "unpack it to a .tar")
        if path.endswith(".tar"):
            return self._tar(path)
        if path.endswith(".json"):
            return self._json(path)
        return iter([self._named(path)])

    def _tar(self, path: str) -> Iterator[Found]:
        if self.root is not None:
            raise UsageError(f"{path} carries its own paths, a root does not apply", "leave --root out")
        return lists.from_tar(path, self.skipped)

    def _json(self, path: str) -> Iterator[Found]:
        if self.root is None:
            raise UsageError(f"{path} lists pictures by name only", "give the folder the pictures lie in with --root")
        return iter(_some_exist(list(lists.from_json(Blob(path), self._place, self.image_name)), path))

    def _lines(self) -> Iterator[Found]:
        lines = (line.rstrip("\r\n") for line in (sys.stdin if self.stdin is None else self.stdin))
        found = [self._named(self._below_root(line)) for line in lines if line.strip()]
        return iter(_some_exist(found, "the list on stdin"))

    def _glob(self, pattern: str) -> Iterator[Found]:
        for one in tree.expand_braces(pattern):
            if _exists(one) or not tree.has_magic(one):
                yield from self._local(one)
            else:
                yield from self._folder(*tree.split_glob(one))

    def _folder(self, folder: str, pattern: str) -> Iterator[Found]:
        """Pictures below ``folder`` that match, or the members of tars if the pattern asks for tars."""
        if not Path(folder).is_dir():
            raise UsageError(f"{folder!r}, where the glob starts, is not a folder", "check the path")
        folder = os.path.normpath(folder)
        above = self._relative(folder, folder)
        depth = None if "**" in pattern else pattern.count("/") + 1
        for name in sorted(tree.walk(folder, self.skipped, depth)):
            path = posixpath.join(folder, name)
            if not tree.matches(name, pattern):
                self.skipped["not matched by the glob"] += 1
            else:
                yield from self._member(name, path, posixpath.join(above, name), pattern)

    def _url(self, spec: str) -> Iterator[Found]:
        for url in tree.expand_braces(spec):
            files, path = filesystem(url)
            if tree.has_magic(path) and not files.exists(path):  # a ? may also begin a query
                yield from self._remote(files, files.glob(path, detail=True), *tree.split_glob(path))
            elif files.isdir(path):
                yield from self._remote(files, files.find(path, detail=True), path, "**")
            elif files.exists(path):
                yield from self._file(url)
            else:
                raise UsageError(f"{url!r} does not exist", "check the URL and the right to read it")

    def _remote(self, files: Any, entries: dict[str, Any], folder: str, pattern: str) -> Iterator[Found]:
        base = folder.rstrip("/") + "/"
        above = self._relative_url(files.unstrip_protocol(folder))
        for path in sorted(path for path, entry in entries.items() if entry["type"] == "file"):
            name = path.removeprefix(base)
            if any(part.startswith(".") for part in name.split("/")):
                self.skipped["hidden"] += 1
            else:
                yield from self._member(name, files.unstrip_protocol(path), posixpath.join(above, name), pattern)

    def _member(self, name: str, location: str, path: str, pattern: str) -> Iterator[Found]:
        if pattern.endswith(".tar"):
            yield from self._tar(location)
        elif tree.is_picture(name):
            yield Found(path, Blob(location))
        else:
            self.skipped["not a picture suffix"] += 1

    def _named(self, path: str) -> Found:
        """A file named by itself or by a line of a list: relative to the root, or to the folder it lies in."""
        if "://" in path:
            return Found(self._relative_url(path) or posixpath.basename(path), Blob(path))
        path = os.path.normpath(path)
        return Found(self._relative(path, posixpath.dirname(path)), Blob(path))

    def _below_root(self, line: str) -> str:
        """A line is looked for below the root first, then as it stands."""
        if self.root is None or "://" in line:
            return line
        inside = posixpath.join(self.root, line)
        return line if _exists(line) and not _exists(inside) else inside

    def _place(self, name: str) -> Blob:
        """Where a file name of a JSON list lies: below the root, and nowhere else."""
        check_key(name, "the JSON list")
        return Blob(posixpath.join(self.root or "", name))

    def _relative(self, path: str, base: str) -> str:
        """``path`` as seen from the root, or from ``base`` without one; empty when they are the same."""
        start = base if self.root is None else self.root
        relative = os.path.relpath(path, start or ".").replace(os.sep, "/")
        if relative == ".." or relative.startswith("../"):
            raise UsageError(f"{path!r} lies outside the root {start!r}", "give a --root that holds all pictures")
        return "" if relative == "." else relative

    def _relative_url(self, url: str) -> str:
        """The same for URLs, empty without a root."""
        if self.root is None:
            return ""
        (_, path), (_, start) = filesystem(url), filesystem(self.root)
        if path != start and not path.startswith(start.rstrip("/") + "/"):
            raise UsageError(f"{url!r} lies outside the root {self.root!r}", "give a --root that holds all pictures")
        return path[len(start) :].strip("/")


def _some_exist(found: list[Found], origin: str) -> list[Found]:
    """A few absent files become lines of the ledger; if every one is absent, the root is wrong."""
    local = [one.blob.file for one in found if "://" not in one.blob.file]
    if local and len(local) == len(found) and not any(map(_exists, local)):
        raise UsageError(
            f"none of the {len(local)} pictures in {origin} exists; looked for {local[0]!r} first",
            "check --root",
        )
    return found


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (OSError, ValueError):  # also a name too long for the file system, or with a null byte
        return False
    return True
