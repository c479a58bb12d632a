"""A foreign LMDB environment, written whole or not at all: the folder takes its name when everything is in it.

The map grows with the content. Peers state a map of 1 TiB, which with ``writemap`` makes a sparse file that is 1 TB to
every copy; readers of theirs take what the file says, so nothing of that is part of the format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from featx.errors import UsageError
from featx.formats.publish import published_folder
from featx.store import disk

_FIRST_MAP = 64 << 20  # bytes
_GROUP = 8 << 20  # bytes put into one transaction, which holds them in memory twice
_LONGEST_KEY = 511  # bytes, of LMDB
_FILES = {"data.mdb", "lock.mdb"}


class LmdbWriter:
    """Puts values under keys; as a context manager it publishes the environment, unless an error came first.

    facts: of the export; see :func:`featx.formats.publish.published_folder`.
    """

    def __init__(self, path: Path, facts: bytes = b"") -> None:
        self.path, self._facts = path, facts
        if path.exists() and not is_environment(path):
            raise UsageError(f"{path} exists and is no LMDB folder", "choose another name")
        self._waiting: list[tuple[bytes, bytes]] = []
        self._bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Add an entry. Raises UsageError for a key that LMDB cannot hold."""
        if not 0 < len(key) <= _LONGEST_KEY:
            raise UsageError(f"the key {key[:80]!r} has {len(key)} bytes, LMDB holds 1 to {_LONGEST_KEY}",
                             "give such pictures shorter keys, or export another format")  # fmt: skip
        self._waiting.append((key, value))
        self._bytes += len(value)
        if self._bytes >= _GROUP:
            self.flush()

    def flush(self) -> None:
        """Give all entries to the environment, which may be the moment when a full disk shows."""
        while self._waiting and not self._put_group():
            self._env.set_mapsize(self._env.info()["map_size"] * 2 + 2 * self._bytes)
        self._waiting, self._bytes = [], 0

    def _put_group(self) -> bool:
        """One transaction. False when the map is too small for it; then nothing happened."""
        try:
            with self._env.begin(write=True) as txn:
                for key, value in self._waiting:
                    txn.put(key, value)
            return True
        except lmdb.MapFullError:
            return False
        except lmdb.Error as error:
            raise OSError(f"{self._bytes:,} bytes for {self.path.name}: {error}") from error

    def __enter__(self) -> LmdbWriter:
        with ExitStack() as stack:
            folder = stack.enter_context(published_folder(self.path, _FILES.__contains__, self._facts))
            self._env = stack.enter_context(_environment(folder))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self.flush()


def is_environment(path: Path) -> bool:
    """Whether a folder holds nothing but an LMDB environment, or nothing at all."""
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= _FILES


@contextmanager
def _environment(folder: Path) -> Iterator[Any]:
    """An environment that is being made; its lock is not part of it."""
    env = lmdb.open(str(folder), _FIRST_MAP, sync=False)
    try:
        yield env
    finally:
        env.close()
        disk.remove(folder / "lock.mdb")
