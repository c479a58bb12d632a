"""Keys and sizes of pictures that a foreign file has under ids, or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.formats.options import Options


def key_of(name: str, options: Options) -> str:
    """The key of the picture that a source calls ``name``, by the template ``options.key``. Raises UsageError."""
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
    """Sizes (height, width) by key, from the file ``options.sizes``; none without one. Raises UsageError.

    The file is JSON ``{key: [height, width]}``, the annotations of COCO, lines ``key,height,width``, or Oscar's hw.tsv.
    """

    @classmethod
    def of(cls, options: Options) -> Sizes:
        """Those of ``options``, read once for all pictures."""
        with suppress(OSError):
            state = Path(options.sizes).stat()
            return _told(options.sizes, state.st_mtime_ns, state.st_size)
        return cls(options)

    def __init__(self, options: Options) -> None:
        self._known: dict[str, tuple[int, int]] = {}
        if not options.sizes:
            return
        try:
            text = Path(options.sizes).read_text("utf-8")
            self._known = _from_json(json.loads(text)) if text.lstrip()[:1] == "{" else _from_lines(text)
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise UsageError(
                f"the sizes in {options.sizes} cannot be read: {error!r}",
                "give JSON {key: [height, width]}, COCO's annotations, or lines `key,height,width`",
            ) from None

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


def _from_json(found: Any) -> dict[str, tuple[int, int]]:
    if isinstance(found.get("images"), list):
        return {Path(one["file_name"]).stem: (int(one["height"]), int(one["width"])) for one in found["images"]}
    return {str(key): (int(height), int(width)) for key, (height, width) in found.items()}


@lru_cache(maxsize=1)
def _told(path: str, changed: int, size: int) -> Sizes:
    return Sizes(Options(sizes=path))


def _from_lines(text: str) -> dict[str, tuple[int, int]]:
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
