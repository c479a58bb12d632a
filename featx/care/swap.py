"""Put a new folder in the place of another, so that at every instant one of the two, whole, has the name."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from featx.errors import StoreError
from featx.store import disk

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2), Linux 3.15
_HERE = -100  # AT_FDCWD


def swap(new: Path, place: Path, aside: Path) -> None:
    """``new`` gets the name ``place``, what had it the name ``aside``; all three lie on one file system.

    Where the system can exchange two names that is one step. Elsewhere it is two, and a crash between them leaves no
    folder called ``place``: :func:`restore` puts the old one back. Durable on return.
    """
    if not place.exists():
        disk.rename(new, place)
    else:
        disk.rename(new, aside)  # its last step: the two lie side by side, and only their names are left to change
        if not exchange(aside, place):
            disk.rename(aside, new)
            disk.rename(place, aside)
            disk.rename(new, place)
    for folder in {place.parent, new.parent, aside.parent}:
        disk.sync(folder)


def restore(place: Path, aside: Path) -> bool:
    """Undo a :func:`swap` that a crash cut in two; whether there was anything to undo."""
    if place.exists() or not aside.exists():
        return False
    disk.rename(aside, place)
    disk.sync(place.parent)
    return True


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False, and nothing happened, where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return int(call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE)) == 0


def free_name(place: Path) -> Path:
    """A name beside ``place`` under which its folder can be kept: ``.damaged-00003-of-00016``, or with a number."""
    first = place.with_name(f".damaged-{place.name}")
    for name in (first, *(first.with_name(f"{first.name}-{n}") for n in range(2, 1000))):
        if not name.exists():
            return name
    raise StoreError(f"{place.parent} keeps 999 damaged copies of {place.name}", "remove them with --drop-damaged")


def kept(parts: Path) -> list[Path]:
    """The folders that were set aside, in the folder of the parts of a store."""
    return sorted(parts.glob(".damaged-*")) if parts.is_dir() else []
