"""How a store in a folder stands, by what lies there: nothing is locked, written or waited for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from featx.errors import FeatxError, StoreDamaged
from featx.status.part import PartStatus, beating, finished
from featx.status.whole import StoreStatus
from featx.store import Manifest, PartManifest, Refusal, disk
from featx.store.base import backend
from featx.store.deaths import read_deaths
from featx.store.flight import left_behind
from featx.store.ledger import read_ledger
from featx.store.lock import holder
from featx.store.manifest import part_folder
from featx.store.pulse import FILE, read_pulse

RECENT = 3  # refusals that are told of
_KINDS = (".log", ".lmdb", ".h5")
_NOISE = {".lock", FILE, f".{FILE}.tmp"}  # files that say nothing of whether a picture was done


class FolderWatch:
    """Looks at one store again and again; what did not change since is not read again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._finished: dict[int, tuple[tuple[int, int, int], PartStatus]] = {}
        self._counted: dict[Path, tuple[list[tuple[str, int, int]], int]] = {}

    def look(self) -> StoreStatus:
        """As it is now. Raises StoreError for what is no store, or may not be read."""
        with disk.reading(self.store):
            manifest = Manifest.load(self.store)
            parts = [self._part(manifest, part) for part in range(manifest.parts)]
            if manifest.complete != all(part.state == "done" for part in parts):
                manifest = Manifest.load(self.store)  # the last one may have finished meanwhile, or one was reopened
            told = missed(manifest, parts)
            return StoreStatus(str(self.store), manifest, told, list(self._recent(manifest, told)))

    def part(self, part: int) -> PartStatus:
        """One part as it is now, counted from 0. Raises StoreError for what is no store, or may not be read."""
        with disk.reading(self.store):
            return self._part(Manifest.load(self.store), part)

    def _part(self, manifest: Manifest, part: int) -> PartStatus:
        folder = part_folder(self.store, part, manifest.parts)
        told = self._done(manifest, part, folder) or self._unfinished(folder, manifest, part)
        if told.state == "stopped":  # unless it was finished while it was looked at
            told = self._done(manifest, part, folder) or told
        return told

    def _done(self, manifest: Manifest, part: int, folder: Path) -> PartStatus | None:
        try:
            stat = (folder / "part.json").stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if part not in self._finished or self._finished[part][0] != seen:
            try:
                facts = PartManifest.load(folder)
            except StoreDamaged as error:
                return PartStatus(part, "failed", total=block(manifest, part), why=error.message)
            if facts is None:  # reopened since
                return None
            self._finished[part] = seen, finished(facts)
        return self._finished[part][1]

    def _unfinished(self, folder: Path, manifest: Manifest, part: int) -> PartStatus:
        """A part without ``part.json``."""
        total = block(manifest, part)
        if not folder.is_dir():
            return PartStatus(part, "not begun", total=total)
        reasons = dict(Counter(refusal.reason for refusal in _ledger(folder)))
        pulse, refused = read_pulse(folder), sum(reasons.values())
        if pulse is not None:
            # By the file's own date: the clock of whoever keeps the files, the same for every writer.
            age = time.time() - (_modified(folder / FILE) or pulse.time)
            told = beating(part, pulse, age, reasons)
            if told.state == "running":
                return replace(told, deaths=_deaths(folder))
        else:
            told = PartStatus(part, "stopped", 0, total, refused, reasons, heard=_heard(folder), why="no sign of life")
        told = replace(told, done=self._count(folder, manifest, told.done - refused) + refused, deaths=_deaths(folder))
        process = holder(folder / ".lock")
        if process is not None and process.alive():  # it opens the part, or cannot write a pulse
            return replace(told, state="running", process=process, why="")
        left = left_behind(folder)
        if left is not None and told.state == "stopped":
            what = f"{len(left.ordinals)} picture{'' if len(left.ordinals) == 1 else 's'}"
            return replace(told, process=told.process or process, why=f"{told.why}, with {what} under way")
        if pulse is None and not told.done and {path.name for path in folder.iterdir()} <= _NOISE:
            return PartStatus(part, "not begun", total=total)
        return told

    def _count(self, folder: Path, manifest: Manifest, otherwise: int) -> int:
        """Records of an unfinished part, from its files; ``otherwise`` where these cannot be read."""
        try:
            files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.suffix in _KINDS]
            seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
            if folder not in self._counted or self._counted[folder][0] != seen:
                self._counted[folder] = seen, _records(folder, manifest)
            return self._counted[folder][1]
        except (FeatxError, OSError):
            return max(otherwise, 0)

    def _recent(self, manifest: Manifest, parts: list[PartStatus]) -> Iterator[Refusal]:
        """The last lines of the ledgers that were written last."""
        places = [part_folder(self.store, part.part, manifest.parts) for part in parts if part.refused]
        dated = sorted(((_modified(place / "ledger.jsonl"), place) for place in places), reverse=True)
        left = RECENT
        for _, place in dated[:RECENT]:
            lines = _ledger(place)[-left:]
            yield from reversed(lines)
            left -= len(lines)
            if not left:
                return


def missed(manifest: Manifest, parts: Sequence[PartStatus]) -> list[PartStatus]:
    """The same parts; those that are not done of a store whose manifest says that all are have failed."""
    if not manifest.complete:
        return list(parts)
    why = "manifest.json says that the store is complete, and this part is not"
    return [part if part.state == "done" else replace(part, state="failed", why=part.why or why) for part in parts]


def block(manifest: Manifest, part: int) -> int | None:
    """How many pictures of the list are a part's that nobody has begun; None where nobody knows."""
    pictures = (manifest.sources or {}).get("pictures")
    if pictures is None:
        return None
    size, n = int(pictures), manifest.parts
    return (part + 1) * size // n - part * size // n


def _records(folder: Path, manifest: Manifest) -> int:
    """Records that are committed in an unfinished part. Raises FeatxError or OSError where its files cannot be read."""
    shards = backend(manifest.backend).open_shards(folder, manifest.schema, sealed=False)
    try:
        return sum(map(len, shards))
    finally:
        for shard in shards:
            shard.close()


def _ledger(folder: Path) -> list[Refusal]:
    try:
        return read_ledger(folder / "ledger.jsonl")
    except (FeatxError, OSError):
        return []  # damage is for `featx verify` to tell


def _deaths(folder: Path) -> int:
    try:
        return len(read_deaths(folder))
    except (FeatxError, OSError):
        return 0


def _heard(folder: Path) -> float:
    """Seconds since anything changed in the folder."""
    return time.time() - max([*map(_modified, folder.iterdir()), folder.stat().st_mtime])


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
