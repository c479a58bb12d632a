"""LMDB backend: a part is written as a log (``log``) and becomes an LMDB file when it is finished (``lmdb_pages``).

LMDB wants a file opened once per process and never across a fork. So the environments of this process
are kept in one table, shared by every reader and writer, and a forked child begins with an empty one.

Every record has pages of its own, where it is aligned to 16 bytes, and the tree holds keys only: small, and hashed as
a whole when a file is sealed.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from featx.codec import Header, examine, layout, peek, text
from featx.errors import StoreDamaged, StoreError, UsageError
from featx.schema import Schema
from featx.store import disk, log
from featx.store.base import Bytes, Log, Sealed, Shard
from featx.store.lmdb_file import read_meta
from featx.store.lmdb_pages import entries, free_tree, meta_pages, value_tree
from featx.store.lmdb_sealed import SealedShard
from featx.store.log import FIRST, PAGE, LogShard, RecordLog

FILE = "records.lmdb"
_STEP = 1024  # keys read per transaction while iterating: no transaction outlives a step
_VERIFY = "run `featx verify` on the store"

T = TypeVar("T")
_table: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = weakref.WeakValueDictionary()
_guard = threading.Lock()


def open_shards(folder: Path, schema: Schema, *, sealed: bool) -> list[Shard]:
    """The one file of the part, if anything was committed to it."""
    path = folder / FILE
    with suppress(FileNotFoundError):
        if not sealed:
            return [LogShard(folder / log.FILE, schema)]
    meta = read_meta(path)
    if not meta:
        return []
    finished = sealed or meta.page_size == PAGE  # only a part of format 1 is written as LMDB
    return [SealedShard(path, schema) if finished else LmdbShard(path, schema)]


def open_log(folder: Path, schema: Schema) -> LmdbLog:
    """The part for appending."""
    return LmdbLog(folder)


def structure(folder: Path) -> Iterator[tuple[Path, str]]:
    """Problems of the B-trees, from a walk by ordinary reads. py-lmdb before 3.0 cannot do it; then there are none."""
    try:
        walker = import_module("lmdb.verify")
    except ModuleNotFoundError:
        return
    for path in sorted(folder.glob("*.lmdb")):
        try:
            yield from ((path, problem) for problem in walker.verify(path, subdir=False))
        except walker.VerifyError as error:
            yield path, str(error)


class LmdbShard(Shard):
    """Reads the records of one LMDB file that a writer of format 1 has open. A finished one is a SealedShard."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema, self.frame = path, schema, ""
        self._env: lmdb.Environment | None = _environment(path, readonly=True, lock=True)

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
            return None if value is None else bytes(_record(value, self.schema, key))

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


class LmdbLog(Log):
    """Appends groups to ``records.log``, and makes an LMDB file of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        if self.path.exists():
            _unseal(self.path, folder / log.FILE)
        self._log: RecordLog | None = RecordLog(folder / log.FILE)

    def __contains__(self, key: object) -> bool:
        return key in self._opened

    def append(self, group: Mapping[bytes, Bytes]) -> None:
        self._opened.append(group)

    def seal(self) -> Sealed:
        opened = self._opened
        checksums: list[tuple[bytes, int]] = []
        unused: list[int] = []
        for group in opened.groups():
            checksums += list(zip(group.keys, group.entries["checksum"].tolist(), strict=True))
            unused += range(group.first, int(group.pages[0]))
        places = sorted(opened.index.places.items())
        main = value_tree([(key, place >> 32, place % 2**32) for key, place in places], opened.index.end)
        free = free_tree(unused, opened.index.end + len(main.pages))
        tree = b"".join((*main.pages, *free.pages))
        metas = meta_pages(free, main, opened.index.end + len(tree) // PAGE - 1)
        disk.current.write(opened.path, [tree], opened.size)
        disk.current.write(opened.path, [metas], 0)
        disk.sync(opened.path)
        disk.move(opened.path, self.path)
        self._log = None
        return Sealed({FILE: opened.whole_hash(metas, tree)}, checksums)

    def close(self) -> None:
        self._log = None

    @property
    def _opened(self) -> RecordLog:
        if self._log is None:
            raise StoreError(f"{self.path.with_name(log.FILE)} was closed", "open the part again")
        return self._log


def _unseal(path: Path, target: Path) -> None:
    """Take a sealed file as the log that it was. Raises StoreDamaged for one that was written to since."""
    if target.exists():
        raise StoreDamaged(f"{path.parent} has both {path.name} and {target.name}", "remove the one that is a copy")
    with path.open("rb", buffering=0) as file:
        size, said = os.fstat(file.fileno()).st_size, entries(os.pread(file.fileno(), FIRST * PAGE, 0))
        found = sum(len(group.keys) for group in log.groups(file.fileno(), size))
    if found != said:
        raise StoreDamaged(
            f"{path} was changed by another program: it has {said} records, {found} of them as featx wrote them",
            "restore the file from a copy, or delete the folder of the part and run the extraction again",
        )
    disk.move(path, target)


def _environment(path: Path, *, readonly: bool = False, lock: bool = True, map_size: int = 0) -> lmdb.Environment:
    """This process's environment of the file: the one in the table, or a new one."""
    with _guard:
        env = _table.get(_identity(path))
        if env is None:
            env = _open(path, map_size, readonly, lock)
            _table[_identity(path)] = env
        elif env.flags()["readonly"] and not readonly:
            raise UsageError(f"this process already reads {path}", "close that reader before writing")
        return env


def _open(path: Path, map_size: int, readonly: bool, lock: bool) -> lmdb.Environment:
    """A reader that may not write the lock file does without: it holds no transaction longer than a look-up, and
    a page that a writer used again meanwhile does not fit the checksum of its record."""
    try:
        return lmdb.open(os.fspath(path), map_size, subdir=False, readonly=readonly, lock=lock)
    except lmdb.Error as error:
        if readonly and lock and _denied(error):
            return _open(path, map_size, readonly, lock=False)
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


def _record(value: memoryview, schema: Schema, key: bytes) -> memoryview:
    """The record in a value, which may be longer."""
    record = value[: layout(schema, peek(value, key).rows)[1]]
    examine(record, schema, key)
    return record


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
