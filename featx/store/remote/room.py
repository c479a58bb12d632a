"""Room on disk for records that were read once: where they are kept, how much, and what goes to make room.

Room is made by removing whole segments of any store, those first that were not used for the longest. While all of them
are in use, nothing is added instead, or a loop over more than fits would find nothing twice.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from featx.errors import UsageError

LIMIT = "10GB"
SEGMENT = ".records"  # how the name of a segment ends
INDEX = ".index"  # and that of its index
PAUSE = 1.0  # seconds for which a folder without room is not looked at again
_LEAST = 1 << 20  # bytes of a limit
_PATIENCE = 4  # times the limit that is turned away before what is in use makes room all the same
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def cache_folder(cache: str | os.PathLike[str] | bool) -> Path:
    """Where records are kept: the folder given, or the user's own for True.

    That is below FEATX_HOME, else XDG_CACHE_HOME, else ``~/.cache``. Raises UsageError for what is no folder.
    """
    if not isinstance(cache, str | os.PathLike | bool):
        raise UsageError(f"cache is {cache!r}", "give a folder, or True for your own")
    if not isinstance(cache, bool):
        return Path(cache).expanduser()
    home = os.environ.get("FEATX_HOME")
    if home:
        return Path(home) / "records"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featx" / "records"


def read_limit(limit: str | int | None) -> int:
    """Bytes of ``"10GB"``, ``"512 MiB"`` or a number. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", str(LIMIT if limit is None else limit).strip().lower())
    size = float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2]] if found else 0.0
    if not _LEAST <= size < 1 << 63:
        raise UsageError(f"cache_limit is {limit!r}", "give bytes, at least a megabyte: 10GB, 500MB")
    return int(size)


class Room:
    """What the segments of all stores below ``root`` may take: ``limit`` bytes."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._turned_away, self._since, self._full = 0, time.time(), float("-inf")

    def closed(self, size: int) -> bool:
        """Whether there was no room a moment ago; then ``size`` bytes are turned away."""
        if time.monotonic() - self._full >= PAUSE:
            return False
        self._turned_away += size
        return True

    def make(self, segment: int, size: int) -> bool:
        """Remove segments until one more of ``segment`` bytes fits. False: all are in use, ``size`` is turned away."""
        there = sorted(_listed(self.root))  # by the time of their last use
        total = sum(taken for _, taken, _ in there)
        for used, taken, path in there:
            if total + segment <= self.limit:
                break
            if used > self._since:
                if self._turned_away < _PATIENCE * self.limit:
                    self._full = time.monotonic()
                    self._turned_away += size
                    return False
                self._turned_away = 0
            path.unlink(missing_ok=True)
            path.with_suffix(INDEX).unlink(missing_ok=True)
            total -= taken
        return True


def _listed(root: Path) -> list[tuple[float, int, Path]]:
    """The segments of all stores: when they were used last, their sizes, their paths."""
    found = []
    for path in root.glob(f"*/*{SEGMENT}"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((state.st_mtime, state.st_size, path))
    return found
