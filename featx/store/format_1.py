"""The open part of a store of format 1: an LMDB environment that its writer appended to, read through py-lmdb.

LMDB wants a file opened once per process and never across a fork. So the environments of this process are kept in one
table, shared by all readers, and a forked child begins with an empty one.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from featx.codec import Header, first_record, peek, text
from featx.errors import StoreDamaged, StoreError
from featx.schema import Schema
from featx.store.base import Shard

_STEP = 1024  # keys read per transaction while iterating: no transaction outlives a step
_VERIFY = "run `featx verify` on the store"

T = TypeVar("T")
_table: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = weakref.WeakValueDictionary()
_guard = threading.Lock()


class LmdbShard(Shard):
    """Reads the records of one LMDB file that a writer of format 1 has open. A finished one is a SealedShard."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema, self.frame = path, schema, ""
        self._env: lmdb.Environment | None = _environment(path)

    def __len__(self) -> int:
        return int(self._opened.stat()["entries"])

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, bytes):
            return False
        with _reading(self._opened, self.path, key) as txn, txn.cursor() as cursor:
            return bool(cursor.set_key(key))  # unlike txn.get it does not touch the pages of the value

    def get(self, key: bytes) -> bytes | None:
        with _reading(self._opened, self.path, key) as txn:
            value = txn.get(key)
            return None if value is None else bytes(first_record(value, self.schema, key))

    def __iter__(self) -> Iterator[bytes]:
        return self._walk(lambda cursor: [bytes(k) for k in islice(cursor.iternext(True, False), _STEP)], bytes)

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        def step(cursor: lmdb.Cursor[Any]) -> list[tuple[bytes, Header]]:
            return [(bytes(key), peek(value, bytes(key))) for key, value in islice(cursor.iternext(), _STEP)]

        return self._walk(step, lambda row: row[0])

    def close(self) -> None:
        self._env = None  # the table closes it when nobody else has it

    @property
    def _opened(self) -> lmdb.Environment:
        if self._env is None:
            raise StoreError(f"{self.path} was closed", "open the store again")
        return self._env

    def _walk(self, step: Callable[[Any], list[T]], key_of: Callable[[T], bytes]) -> Iterator[T]:
        start = b""
        while True:
            with _reading(self._opened, self.path, start) as txn, txn.cursor() as cursor:
                rows = step(cursor) if cursor.set_range(start) else []
            if not rows:
                return
            if key_of(rows[-1]) < start:  # a damaged tree can lead around in a circle
                raise StoreDamaged(f"{self.path} is damaged: its keys are out of order", _VERIFY)
            yield from rows
            start = key_of(rows[-1]) + b"\0"


def _environment(path: Path) -> lmdb.Environment:
    """This process's environment of the file: the one in the table, or a new one."""
    with _guard:
        env = _table.get(_identity(path))
        if env is None:
            env = _table[_identity(path)] = _open(path)
        return env


def _open(path: Path, lock: bool = True) -> lmdb.Environment:
    """A reader that may not write the lock file does without: it holds no transaction longer than a look-up, and
    a page that a writer used again meanwhile does not fit the checksum of its record."""
    try:
        return lmdb.open(os.fspath(path), subdir=False, readonly=True, lock=lock)
    except lmdb.Error as error:
        if lock and _denied(error):
            return _open(path, lock=False)
        raise StoreError(f"{path} cannot be opened: {error}", _VERIFY) from error


def _denied(error: lmdb.Error) -> bool:
    """Whether the system said EACCES, for which py-lmdb has a class, or EROFS, of which it keeps the text only."""
    return isinstance(error, lmdb.ReadonlyError) or os.strerror(errno.EROFS) in str(error)


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)


@contextmanager
def _reading(env: lmdb.Environment, path: Path, key: bytes) -> Iterator[Any]:
    """A read transaction whose values are views of the map. Raises StoreDamaged for what LMDB stumbles over."""
    try:
        try:
            txn = env.begin(buffers=True)
        except lmdb.MapResizedError:  # another process made the file grow
            env.set_mapsize(0)
            txn = env.begin(buffers=True)
        with txn:
            yield txn
    except lmdb.Error as error:
        raise StoreDamaged(f"{path} is damaged at record {text(key)!r}: {error}", _VERIFY) from error


def _start_anew() -> None:
    """A forked child must not use the parent's environments; closing its copies leaves the parent's alone."""
    global _guard
    _guard = threading.Lock()
    for env in list(_table.values()):
        env.close()
    _table.clear()


os.register_at_fork(after_in_child=_start_anew)
