"""Disks that record, die, fail, or forget: stand-ins for ``featx.store.disk.Disk``.

:class:`Recorder` does everything on the real disk and keeps a list of what was done. :func:`image` makes from the
first operations of that list a folder as a power cut right after them could leave it. The model is harsher than file
systems are:

- A written byte survives for certain when its file was synced afterwards. Otherwise each block of 512 bytes survives or
  not, on its own; where the file grew without it there are zeros, or rubbish that is no text. A change of length alike.
- A name (made, renamed, removed) survives for certain when its folder was synced afterwards. Otherwise each such
  step has happened or not, on its own, but a rename never by halves.
"""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from featx.store.disk import Disk

SECTOR = 512
OPERATIONS = ("make_folder", "create", "write", "sync", "rename", "remove", "resize")


class Step(NamedTuple):
    """One operation that was done, with the bytes it wrote."""

    name: str
    path: Path
    more: Any = None


class Watched(Disk):
    """Calls :meth:`before` ahead of each operation."""

    def before(self, name: str, path: Path, *more: Any) -> None:
        raise NotImplementedError

    def make_folder(self, path: Path) -> None:
        self.before("make_folder", path)
        super().make_folder(path)

    def create(self, path: Path) -> None:
        self.before("create", path)
        super().create(path)

    def write(self, path: Path, pieces: Sequence[Any], at: int) -> None:
        self.before("write", path, pieces, at)
        super().write(path, pieces, at)

    def sync(self, path: Path) -> None:
        self.before("sync", path)
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self.before("rename", source, target)
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self.before("remove", path)
        super().remove(path)

    def resize(self, path: Path, size: int) -> None:
        self.before("resize", path, size)
        super().resize(path, size)


class Dying(Watched):
    """Kills the process at operation ``number`` (from 1): before it, after it, or in the middle of it."""

    def __init__(self, number: int, when: str) -> None:
        self.left, self.when = number, when

    def before(self, name: str, path: Path, *more: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.left == 0 and self.when == "halfway" and name == "write":
            data = b"".join(map(bytes, more[0]))
            super(Watched, self).write(path, [data[: len(data) // 2]], more[1])
        if (self.left == 0 and self.when == "halfway") or (self.left == -1 and self.when == "after"):
            os.kill(os.getpid(), signal.SIGKILL)


class Failing(Watched):
    """Fails operation ``number`` (from 1) with ``error`` and, unless ``once``, all after it. Writes fail halfway."""

    def __init__(self, number: int, error: int = errno.EIO, *, once: bool = True, only: str = "") -> None:
        self.left, self.error, self.once, self.only = number, error, once, only

    @property
    def failed(self) -> bool:
        """Whether it came to that."""
        return self.left <= 0

    def before(self, name: str, path: Path, *more: Any) -> None:
        self.left -= self.only in ("", name)
        if self.left > 0 or (self.left < 0 and self.once) or self.only not in ("", name):
            return
        if name == "write":
            data = b"".join(map(bytes, more[0]))
            super(Watched, self).write(path, [data[: len(data) // 3]], more[1])
        raise OSError(self.error, os.strerror(self.error), str(path))


class Full(Watched):
    """A disk with room for ``free`` more bytes: a write that does not fit is cut and fails with ENOSPC."""

    def __init__(self, free: int) -> None:
        self.free = free

    def before(self, name: str, path: Path, *more: Any) -> None:
        if name == "write":
            data = b"".join(map(bytes, more[0]))
            grows = max(0, more[1] + len(data) - path.stat().st_size)
            if grows > self.free:
                super(Watched, self).write(path, [data[: len(data) - grows + self.free]], more[1])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self.free -= grows
        elif name == "resize":
            self.free += max(0, path.stat().st_size - more[0])
        elif name == "remove" and path.exists():
            self.free += path.stat().st_size


class Recorder(Watched):
    """Keeps what was done below ``root``. A file that somebody else wrote (HDF5) counts as written before its sync."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[Step] = []
        self._foreign: dict[Path, bool] = {}

    def before(self, name: str, path: Path, *more: Any) -> None:
        short = path.relative_to(self.root)
        if name == "write":
            self._take_foreign(path, more[1])
            self._note("write", short, (more[1], b"".join(map(bytes, more[0]))))
        elif name == "rename":
            self._note("rename", short, more[0].relative_to(self.root))
        elif name == "resize":
            self._note("resize", short, more[0])
        elif name == "sync" and path.is_file():
            self._take_foreign(path)
            self._note("sync", short)
        else:
            self._note(name, short)

    def _note(self, name: str, short: Path, more: Any = None) -> None:
        self.steps.append(Step(name, short, more))

    def _take_foreign(self, path: Path, at: int = 0) -> None:
        """What lies in a file that never went through ``create``: its whole content, as one write."""
        short = path.relative_to(self.root)
        made = any(step.name == "create" and step.path == short for step in self.steps)
        came = any(step.name == "rename" and step.more == short for step in self.steps)
        if not made and not came:
            self._note("create", short)
            self._note("write", short, (0, path.read_bytes()))


class _File:
    """A file in the making: what is durable, and what was done since."""

    def __init__(self) -> None:
        self.durable = b""
        self.since: list[tuple[str, Any]] = []

    def settle(self) -> None:
        self.durable = self.content(lambda: True)
        self.since = []

    def content(self, survives: Callable[[], bool], rubbish: Callable[[int], bytes] = bytes) -> bytes:
        data = bytearray(self.durable)
        for name, more in self.since:
            if name == "resize":
                if survives():
                    data = data[:more] + bytes(max(0, more - len(data)))
                continue
            at, new = more
            place = at
            while place < at + len(new):
                end = min(at + len(new), place - place % SECTOR + SECTOR)
                if survives():
                    if place > len(data):
                        data += rubbish(place - len(data))
                    data[place:end] = new[place - at : end - at]
                place = end
        return bytes(data)


def image(steps: Sequence[Step], target: Path, rng: random.Random, keep: float) -> None:
    """Make in ``target`` the folder that a power cut after ``steps`` leaves, if what was not synced survives with
    probability ``keep``: 0 nothing, 1 all of it."""

    def survives() -> bool:
        return rng.random() < keep

    def rubbish(size: int) -> bytes:
        return bytes(size) if rng.random() < 0.5 else bytes(128 + byte // 2 for byte in rng.randbytes(size))

    now: dict[Path, _File | None] = {}  # None: a folder
    durable: dict[Path, _File | None] = {}
    since: dict[Path, list[tuple[str, Path, Any]]] = {}  # by folder: what was done to its names since its sync
    for step in steps:
        _replay(step, now, durable, since)
    for changes in since.values():
        for name, path, more in changes:
            if survives():
                _change(durable, name, path, more)
    target.mkdir()
    for path, file in sorted(durable.items(), key=lambda item: len(item[0].parts)):
        if not (target / path).parent.is_dir():
            continue  # a folder that did not survive takes what was in it along
        if file is None:
            (target / path).mkdir(exist_ok=True)
        else:
            (target / path).write_bytes(file.content(survives, rubbish))


def _replay(
    step: Step,
    now: dict[Path, _File | None],
    durable: dict[Path, _File | None],
    since: dict[Path, list[tuple[str, Path, Any]]],
) -> None:
    name, path, more = step
    file = now.get(path)
    if name in ("write", "resize"):
        assert isinstance(file, _File), f"{path} was never made"
        file.since.append((name, more))
    elif name == "create" and isinstance(file, _File):
        file.since.append(("resize", 0))
    elif name == "sync" and isinstance(file, _File):
        file.settle()
    elif name == "sync":
        for change in since.pop(path, []):
            _change(durable, *change)
    elif not (name == "make_folder" and path in now):
        made = {"create": _File(), "make_folder": None, "rename": file, "remove": None}[name]
        change = (name, path, (more, made))
        _change(now, *change)
        since.setdefault(path.parent, []).append(change)


def _change(names: dict[Path, _File | None], name: str, path: Path, more: tuple[Any, _File | None]) -> None:
    """Do to a folder's names what the operation does; what it needs may not have survived."""
    target, file = more
    if name in ("create", "make_folder"):
        names[path] = file
    elif name == "remove":
        names.pop(path, None)
    elif path in names:  # a rename; what it moves is the file that had the name then
        names[target] = file
        if names[path] is file:
            del names[path]
