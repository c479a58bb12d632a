"""What is served: stores under names. One that grows or is replaced is opened anew, by what its files' dates say.

Requests under way keep the reader that they have: what it maps stays mapped until the last of them lets go of it. While
a store cannot be opened (it is being replaced) the one before goes on being served.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from featx.errors import FeatxError, StoreError, UsageError
from featx.serve.problems import log
from featx.serve.spans import Spans
from featx.store import Location, located, open_store
from featx.store.manifest import Manifest, part_folder
from featx.store.reader import StoreReader

NAME = re.compile(r"[A-Za-z0-9._-]+")
EVERY = 1.0  # seconds between two looks at the files of a store
TRUSTED = 1_000_000  # records up to which a store is looked through when it is opened, and not when a key is missing
_ATTEMPTS = 5  # to open a store that is replaced while it is opened
_SHARE = 20  # of that time opening may take one part in so many

Signature = tuple[tuple[int, int, int] | None, ...]


class Mounted:
    """One store under a name."""

    def __init__(self, name: str, location: Location) -> None:
        if not NAME.fullmatch(name) or set(name) == {"."}:
            raise UsageError(
                f"{name!r} cannot be the name of a store in an address",
                "name it with letters, digits, dots, - and _: NAME=PATH",
            )
        self.name, self.location = name, location
        folder, self._view = located(location)
        self.path = Path(folder).absolute()
        self.pictures = False  # whether its pictures are served, too
        self.trouble: str | None = None  # why what is there now cannot be opened
        self.changed: Callable[[], object] = lambda: None  # called when it was opened anew
        self._spans: Spans | None = None
        self._seen: Signature | None = None
        self._next, self._lock = 0.0, Lock()

    @property
    def spans(self) -> Spans:
        """The records of the store as it is now, give or take a second. Raises StoreError while there is none."""
        if monotonic() >= self._next:
            self.renew()
        if self._spans is None:
            raise StoreError(f"{self.name} cannot be opened: {self.trouble}", "ask again")
        return self._spans

    @property
    def latest(self) -> Spans | None:
        """The records as they were when somebody looked last."""
        return self._spans

    @property
    def reader(self) -> StoreReader:
        """The opened store; see ``spans``."""
        return self.spans.reader

    def opened(self) -> StoreReader:
        """The store that lies there now, opened anew. Raises StoreError, StoreDamaged: what is wrong with it."""
        return open_store({"path": str(self.path), **self._view}, partial=not Manifest.load(self.path).complete)

    def again(self, failed: Spans) -> bool:
        """Whether the files are others by now, after reading ``failed``. Raises StoreError when they cannot be opened.

        Somebody who is looking already is waited for.
        """
        if self._spans is failed:
            self.renew(wait=True)
        if self._spans is not failed:
            return True
        if self.trouble is not None:
            raise StoreError(f"{self.name} cannot be opened: {self.trouble}", "ask again")
        return False

    def renew(self, wait: bool = False) -> bool:
        """Look at the files at once, and open them if they are others. Whether they were.

        Where somebody is looking, nothing is done, unless ``wait`` says so or there is no store yet.
        """
        if not self._lock.acquire(blocking=wait or self._spans is None):
            return False  # somebody is looking
        began = monotonic()
        try:
            return self._look()
        finally:
            now = monotonic()
            self._next = now + max(EVERY, _SHARE * (now - began))
            self._lock.release()

    def _look(self) -> bool:
        found = self._signature()
        if found == self._seen and self._spans is not None:
            self.trouble = None
            return False
        for _ in range(_ATTEMPTS):
            opened = self._tried()
            before, found = found, self._signature()
            if found == before:
                break  # else it was replaced meanwhile, and what was opened may be half of each
        if opened is None:
            return False
        if self._spans is not None:
            log.info("%s is another now: %d records", self.name, len(opened))
        self._spans, self.trouble = Spans(opened), None
        self._seen = found if found == _signature(self.path, opened.manifest) else None
        self.changed()
        return True

    def _tried(self) -> StoreReader | None:
        """The store that lies there, None when it cannot be opened, for the reason that ``trouble`` is then."""
        try:
            opened = self.opened()
        except (FeatxError, OSError) as error:
            if self.trouble != str(error):
                log.warning("%s cannot be opened: %s", self.name, error)
            self.trouble = str(error)
            return None
        if len(opened) <= TRUSTED:
            with suppress(FeatxError):  # records have checksums of their own, and are served all the same
                next(opened.keys(), None)
        return opened

    def _signature(self) -> Signature:
        return _signature(self.path, None if self._spans is None else self._spans.reader.manifest)


class Mounts(Mapping[str, StoreReader]):
    """Stores by name: ``mounts[name]`` is the reader of the moment. Raises KeyError for a name that there is not."""

    def __init__(self, stores: Iterable[Mounted]) -> None:
        self.stores: dict[str, Mounted] = {}
        for store in stores:
            if store.name in self.stores:
                raise UsageError(
                    f"two stores are called {store.name!r}: {self.stores[store.name].path} and {store.path}",
                    "give one of them another name: NAME=PATH",
                )
            self.stores[store.name] = store

    @classmethod
    def of(cls, **locations: Any) -> Mounts:
        """Stores by name and place: ``Mounts.of(coco="coco.featx")``."""
        return cls(Mounted(name, location) for name, location in locations.items())

    def __getitem__(self, name: str) -> StoreReader:
        return self.stores[name].reader

    def __iter__(self) -> Iterator[str]:
        return iter(self.stores)

    def __len__(self) -> int:
        return len(self.stores)


def _signature(path: Path, manifest: Manifest | None) -> Signature:
    """Which files a store consists of: those that change when it grows, is finished or replaced."""
    files = [path / "manifest.json"]
    if manifest is not None and not manifest.complete:
        for part in range(manifest.parts):
            folder = part_folder(path, part, manifest.parts)
            files += [folder / "part.json", folder / "records.log"]
    return tuple(map(_stat, files))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
