"""Keys and sizes of pictures that a foreign file has under ids, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from featx.codec import store_key
from featx.errors import UsageError
from featx.formats.options import Options

_Known = Mapping[str, tuple[int, int]]


def key_of(name: str, options: Options) -> str:
    """The key of the picture that a source calls ``name``, by the template ``options.key``.

    Raises UsageError for one that no store can have, too.
    """
    return checked(_by_template(name, options))


def checked(key: str) -> str:
    """``key``. Raises UsageError for one that no store can have."""
    store_key(key)
    return key


def _by_template(name: str, options: Options) -> str:
    try:
        try:
            return options.key.format(name)
        except ValueError:
            return options.key.format(int(name))
    except (ValueError, LookupError) as error:
        raise UsageError(
            f"--key {options.key!r} makes no key of {name!r}: {error}",
            "use one pair of braces: COCO_val2014_{:012d}, or img-{}",
        ) from None


class Sizes:
    """Sizes (height, width) by key."""

    @classmethod
    def of(cls, options: Options) -> Sizes:
        """Those that the file ``options.sizes`` tells, read once for all pictures; none without one. Raises UsageError.

        The file is JSON ``{key: [height, width]}``, the annotations of COCO, lines ``key,height,width``, or Oscar's
        hw.tsv.
        """
        if not options.sizes:
            return cls({})
        with _reading(path := Path(options.sizes)):
            state = path.stat()
            return _told(path, state.st_ino, state.st_mtime_ns, state.st_size)

    @classmethod
    def of_lines(cls, path: Path) -> Sizes:
        """Those of a file that is known to be lines, as hw.tsv is, whatever its first key begins with."""
        with _reading(path):
            return cls(_from_lines(path.read_text("utf-8")))

    def __init__(self, known: _Known) -> None:
        self._known = known

    def find(self, key: str) -> tuple[int, int] | None:
        """The size of a picture, None when it was not told."""
        return self._known.get(key)

    def must(self, path: Path) -> None:
        """Raise UsageError when no sizes were told at all; ``path`` is the source that has none."""
        if not self._known:
            raise UsageError(
                f"{path} has no sizes of its pictures, so its boxes cannot be told in pixels",
                "--sizes FILE gives them: JSON {key: [height, width]}, COCO's annotations, or lines `key,height,width`",
            )

    def need(self, key: str) -> tuple[int, int]:
        """The size of a picture. Raises ValueError when it was not told."""
        if key not in self._known:
            raise ValueError(f"the size of picture {key!r} is not among those that --sizes told")
        return self._known[key]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell any error as one of the sizes in ``path``."""
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(
            f"the sizes in {path} cannot be read: {error!r}",
            "give JSON {key: [height, width]}, COCO's annotations, or lines `key,height,width`",
        ) from None


@lru_cache(maxsize=1)
def _told(path: Path, inode: int, changed: int, size: int) -> Sizes:
    return Sizes(_from_text(path.read_text("utf-8")))


def _from_text(text: str) -> _Known:
    """Of JSON, or else of lines, the first of which may begin as JSON does."""
    if text.lstrip()[:1] != "{":
        return _from_lines(text)
    try:
        found = json.loads(text)
    except ValueError:
        with suppress(ValueError, LookupError, TypeError):
            return _from_lines(text)
        raise
    return _from_json(found)


def _from_json(found: Any) -> _Known:
    if isinstance(found.get("images"), list):
        return {Path(one["file_name"]).stem: (int(one["height"]), int(one["width"])) for one in found["images"]}
    return {str(key): (int(height), int(width)) for key, (height, width) in found.items()}


def _from_lines(text: str) -> _Known:
    if "\t" in text.split("\n", 1)[0]:
        return dict(map(_from_oscar, text.splitlines()))
    rows = (line.rsplit(",", 2) for line in text.splitlines() if line.strip())
    return {key: (int(height), int(width)) for key, height, width in rows}


def _from_oscar(line: str) -> tuple[str, tuple[int, int]]:
    """A line of hw.tsv: the key and JSON ``[{"height": h, "width": w}]``, or the two numbers."""
    key, _, told = line.partition("\t")
    if told.lstrip()[:1] not in ("[", "{"):
        height, width = told.split()
        return key, (int(height), int(width))
    found = json.loads(told)
    one = found[0] if isinstance(found, list) else found
    return key, (int(one["height"]), int(one["width"]))
