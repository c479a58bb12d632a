"""Which pictures there are: every kind of list becomes sources with keys, checked before any work starts.

``list_pictures`` reads a spec; ``part`` cuts the listing for ``--part k/n``. Reading the bytes is
``Source.read``; turning them into pixels is ``featx.decode``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from featx.errors import UsageError
from featx.images.keys import KEY_RULES, Found, assign, rule
from featx.images.search import Search
from featx.images.source import Source
from featx.images.tree import PICTURE_SUFFIXES

__all__ = ["KEY_RULES", "PICTURE_SUFFIXES", "Listing", "Source", "list_pictures", "part"]


class Listing(list[Source]):
    """A list of sources that also says what it left out: ``skipped`` counts files by reason."""

    def __init__(self, sources: Iterable[Source], skipped: Mapping[str, int]) -> None:
        super().__init__(sources)
        self.skipped = dict(skipped)

    def __repr__(self) -> str:
        return f"Listing({len(self)} pictures, skipped={self.skipped})"


def list_pictures(
    spec: str | Sequence[str],
    *,
    root: str | None = None,
    key_rule: str = "path",
    stdin: Iterable[str] | None = None,
    image_name: str | None = None,
) -> Listing:
    """Everything ``spec`` names, in a fixed order, each with its key.

    A spec is a file, a folder (recursive), a glob (``**`` for any folders), ``-`` (one path per line on
    ``stdin``), a COCO or VQAv2 ``.json``, a ``.tar`` (also ``a-{000..010}.tar`` or ``*.tar``), a URL that
    fsspec understands, or a sequence of those. Folders and globs are sorted by path; everything else keeps
    its own order. From folders, globs and tars only names with a picture suffix are taken; a file that is
    named itself is always taken. The same file named twice is one picture.

    ``root``: where the names of a list or a JSON file are looked for, and what paths are relative to when
    keys are made. Without it a path is relative to the folder, the glob's fixed part, the tar, or, for a
    file named by itself, to the folder it lies in. ``key_rule``: see ``KEY_RULES``. ``image_name``: template
    of file names for VQAv2 lists that do not say which subset of COCO they are of.

    Raises UsageError when nothing matches, a list cannot be understood, a key is unsafe, or keys collide.
    """
    rule(key_rule)  # before a long walk
    search = Search(root, stdin, image_name)
    here = str(Path.cwd())
    distinct: dict[tuple[str, tuple[int, int] | None], Found] = {}
    for one in search.all(spec):
        file = one.blob.file
        # Two ways to write one place are one place. An absolute second path replaces the first.
        place = file if "://" in file else posixpath.normpath(posixpath.join(here, file))
        distinct.setdefault((place, one.blob.span), one)
    found = list(distinct.values())
    if not found:
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(search.skipped.items()))
        raise UsageError(
            f"no picture found in {spec!r}: {search.skipped.total()} files seen" + (f" ({why})" if why else ""),
            f"pictures are taken by suffix ({' '.join(sorted(PICTURE_SUFFIXES))}); name other files one by one",
        )
    named = enumerate(zip(assign(found, key_rule), found, strict=True))
    return Listing((Source(key, one.blob.location, i, one.blob) for i, (key, one) in named), search.skipped)


def part(sources: Sequence[Source], k: int, n: int) -> list[Source]:
    """The ``k``-th of ``n`` parts, 1-based: a contiguous block, all blocks equally long within one.

    Contiguous rather than strided: a part then reads whole tars and folders from end to end, and parts laid
    end to end keep the order of the listing. The parts are disjoint and together are everything.
    Raises UsageError unless ``1 <= k <= n``.
    """
    if not 1 <= k <= n:
        raise UsageError(f"part {k} of {n} does not exist", f"parts are numbered 1 to {max(n, 1)}")
    size = len(sources)
    return list(sources[(k - 1) * size // n : k * size // n])
