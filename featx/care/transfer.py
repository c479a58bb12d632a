"""What copying a store in either direction has in common: which files, how many at a time, whose copy a place holds.

Parts are immutable, so a file that is there and right never has to be copied again. A copy counts as a store only when
its ``manifest.json`` is there, and a part only when its ``part.json`` is: both come behind what they speak of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import xxhash

from featx.errors import Interrupted, UsageError
from featx.progress import Tick
from featx.store import Manifest
from featx.store.manifest import part_folder


@dataclass(frozen=True)
class Transfer:
    """What was copied. parts: those that are whole at the target now; bytes: that travelled; complete: whether the
    copy is a complete store; total: the number of all its parts."""

    parts: list[int]
    bytes: int
    complete: bool
    total: int


class Moved:
    """How much was done, and how much of that travelled."""

    def __init__(self, tick: Tick) -> None:
        self._tick, self._lock, self.stopped = tick, Lock(), False
        self.bytes = 0

    def stop(self) -> None:
        """Let every copy that is under way end at its next block."""
        self.stopped = True

    def passed(self, count: int) -> None:
        """So much was there already."""
        self._tick(count)

    def undone(self, count: int) -> None:
        """So much that was told has to be done again."""
        self._tick(-count)

    def travelled(self, count: int) -> None:
        """So much was copied."""
        if self.stopped:
            raise Interrupted("another file of the copy failed", "run the same command again to go on")
        with self._lock:
            self.bytes += count
        self._tick(count)


def check_jobs(jobs: int) -> None:
    """Raise UsageError for a number of files at a time that cannot be."""
    if jobs < 1:
        raise UsageError(f"{jobs} files at a time cannot be copied", "give --jobs a whole number of 1 or more")


def parallel(jobs: int, moved: Moved, tasks: Sequence[Callable[[], None]]) -> None:
    """Run all; the first error, or Ctrl-C, stops the others and is raised."""

    def run(task: Callable[[], None]) -> None:
        if moved.stopped:
            return  # whoever stopped it has an error
        try:
            task()
        except BaseException:
            moved.stop()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        running: list[Future[None]] = [pool.submit(run, task) for task in tasks]
        try:
            wait(running)
        except BaseException:
            moved.stop()
            raise
    errors = [error for one in running if (error := one.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Interrupted)):  # what stopped them, not that it did
        raise error


def chosen(manifest: Manifest, wanted: Sequence[int] | None, default: Sequence[int]) -> Sequence[int]:
    """The parts asked for. Raises UsageError for one that cannot be."""
    if wanted is None:
        return default
    for part in wanted:
        if not 0 <= part < manifest.parts:
            raise UsageError(f"there is no part {part}", f"the store has {manifest.parts}, counted from 0")
    return sorted(set(wanted))


def finished(store: Path, manifest: Manifest) -> list[int]:
    """The parts of a folder that are there as a whole."""
    folders = (part_folder(store, part, manifest.parts) for part in range(manifest.parts))
    return [part for part, folder in enumerate(folders) if (folder / "part.json").exists()]


def identity(manifest: Manifest) -> str:
    """What stays the same of a store's manifest from its first part to its completion."""
    facts = manifest.to_dict()
    same = {name: facts[name] for name in ("backend", "parts", "sources", "schema", "provenance", "labels")}
    return xxhash.xxh3_128_hexdigest(json.dumps(same, sort_keys=True).encode())


def folder_name(part: int, manifest: Manifest) -> str:
    """The folder of a part as it is called on the other side."""
    return part_folder(Path(), part, manifest.parts).as_posix()
