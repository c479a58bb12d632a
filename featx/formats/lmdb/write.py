"""A foreign LMDB environment, written whole or not at all: the folder takes its name when everything is in it.

The map grows with the content. Peers state a map of 1 TiB, which with ``writemap`` makes a sparse file that is 1 TB to
every copy; readers of theirs take what the file says, so nothing of that is part of the format.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb

from featx.errors import UsageError
from featx.store import disk

_FIRST_MAP = 64 << 20  # bytes
_GROUP = 8 << 20  # bytes put into one transaction, which holds them in memory twice
_LONGEST_KEY = 511  # bytes, of LMDB


class LmdbWriter:
    """Puts values under keys; as a context manager it publishes the environment, unless an error came first."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, disk.temporary(path)
        if path.exists() and not is_environment(path):
            raise UsageError(f"{path} exists and is no LMDB folder", "choose another name")
        shutil.rmtree(self.folder, ignore_errors=True)  # what an export that was killed left
        self._waiting: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        with disk.room(path.parent):
            self.folder.mkdir()
            self._env = lmdb.open(str(self.folder), _FIRST_MAP, sync=False)

    def put(self, key: bytes, value: bytes) -> None:
        """Add an entry. Raises UsageError for a key that LMDB cannot hold."""
        if not 0 < len(key) <= _LONGEST_KEY:
            raise UsageError(f"the key {key[:80]!r} has {len(key)} bytes, LMDB holds 1 to {_LONGEST_KEY}",
                             "give such pictures shorter keys, or export another format")  # fmt: skip
        self._waiting.append((key, value))
        self._bytes += len(value)
        if self._bytes >= _GROUP:
            self._flush()

    def _flush(self) -> None:
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
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                with disk.room(self.path.parent):
                    self._flush()
                    self._env.close()
                    self._publish()
        finally:
            self._env.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self) -> None:
        disk.remove(self.folder / "lock.mdb")
        disk.sync(self.folder / "data.mdb")
        disk.sync(self.folder)
        for name in ("data.mdb", "lock.mdb"):
            disk.remove(self.path / name)
        disk.rename(self.folder, self.path)  # over an empty folder, if there was one
        disk.sync(self.path.absolute().parent)


def is_environment(path: Path) -> bool:
    """Whether a folder holds nothing but an LMDB environment, or nothing at all."""
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= {"data.mdb", "lock.mdb"}
