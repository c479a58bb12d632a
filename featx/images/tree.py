"""Walking folders and matching globs: without hidden files, safe from link loops."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from featx.errors import UsageError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
_MAGIC = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")


def is_picture(name: str) -> bool:
    """Whether the suffix of a file name is one of a picture."""
    return posixpath.splitext(name)[1].lower() in PICTURE_SUFFIXES


def has_magic(text: str) -> bool:
    """Whether a spec holds glob characters or a brace range."""
    return bool(_MAGIC.search(text) or _BRACES.search(text))


def expand_braces(text: str) -> list[str]:
    """``a-{00..02}.tar`` and ``{x,y}.tar`` as the list of names they stand for, in order.

    A numeric range keeps the width of its first number.
    """
    braces = _BRACES.search(text)
    if not braces:
        return [text]
    numbers = re.fullmatch(r"([0-9]+)\.\.([0-9]+)", braces[1])
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        items = [str(n).zfill(len(numbers[1])) for n in range(first, last + 1)]
    else:
        items = braces[1].split(",")
    head, tail = text[: braces.start()], text[braces.end() :]
    return [head + item + rest for item in items for rest in expand_braces(tail)]


def walk(folder: str, skipped: Counter[str], depth: int | None = None) -> Iterator[str]:
    """Paths of the regular files below ``folder``, relative, with ``/``, in no particular order.

    Hidden files and folders are left out and counted in ``skipped``. Links are followed, except one that
    leads back to a folder it lies in. ``depth`` limits how many levels are entered (1: no subfolders).
    """
    yield from _walk(folder, "", skipped, depth, ())


def _walk(
    folder: str, prefix: str, skipped: Counter[str], depth: int | None, above: tuple[tuple[int, int], ...]
) -> Iterator[str]:
    try:
        status = Path(folder).stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UsageError(f"folder {folder!r} cannot be listed: {error.strerror}", "check its permissions") from None
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        skipped["link back to its own folder"] += 1
        return
    for entry in entries:
        if entry.name.startswith("."):
            skipped["hidden"] += 1
        elif entry.is_file():
            yield prefix + entry.name
        elif entry.is_dir():
            if depth is None or depth > 1:
                below = None if depth is None else depth - 1
                yield from _walk(entry.path, f"{prefix}{entry.name}/", skipped, below, (*above, identity))
        else:
            skipped["broken link or special file"] += 1


def split_glob(pattern: str) -> tuple[str, str]:
    """The folder in front of the first glob character, and the pattern behind it."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."), "/".join(parts[first:])


def matches(path: str, pattern: str) -> bool:
    """Whether a relative path matches a glob: ``*``, ``?`` and ``[...]`` in a name, ``**`` for any folders."""
    return pattern == "**" or _matches(path.split("/"), pattern.split("/"))


def _matches(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return _matches(names, patterns[1:] or ["*"]) or (bool(names) and _matches(names[1:], patterns))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
