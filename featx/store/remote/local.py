"""Records that were read once, kept on disk up to a limit: a cache that may lose anything and never lies.

A folder for each store, named by its digest, holds *segments*: ``NAME.records``, records one behind the other at
multiples of 16, and ``NAME.index``, a row of three u64 for each: xxh3_64 of its key, its offset, its size. Both are
only ever appended to, by the one process that made them; others read along. Nothing is synced and nobody waits for a
lock, because nothing has to be believed: a record carries a checksum that is seeded by its key, so bytes that rotted,
were torn by a crash or belong to another key are found out when they are read, dropped, and fetched again.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from featx.codec import ALIGN, checksum, peek
from featx.errors import StoreError
from featx.store.remote.room import INDEX, SEGMENT, Room

_SEGMENTS = 16  # as many make up the limit
_LARGEST = 256 << 20  # bytes of a segment
_LOOK = 1.0  # seconds after which the segments of other processes are looked for
_TOUCH = 60.0  # seconds after which the use of a segment is noted again
_ROW = np.dtype("<u8")


@dataclass
class _Segment:
    """A file of records that is open for reading. rows: of its index that were taken up. used: when that was noted."""

    name: str
    handle: int
    rows: int = 0
    used: float = 0.0


class _Open(NamedTuple):
    """The segment that this process writes: its number, the handle of its index, and where it ends."""

    number: int
    rows: int
    end: int


class LocalCache:
    """The records of one store that are kept in a folder, which several processes may use at once.

    root: the folder for all stores; limit: bytes of all of it. Threads may share one, and a forked child goes on with
    segments of its own. What the disk refuses is no error of reading: nothing more is kept then, with one warning.
    """

    def __init__(self, root: Path, digest: str, limit: int) -> None:
        self.root, self.folder, self.limit = root, root / re.sub(r"[^0-9A-Za-z.]", "_", digest), limit
        self._size = min(_LARGEST, limit // _SEGMENTS)
        self._places: dict[int, int] = {}  # hash of a key -> number of its segment, offset, size
        self._segments: dict[int, _Segment] = {}
        self._numbers: dict[str, int] = {}
        self._own: _Open | None = None
        self._off, self._room = False, Room(root, limit)
        self._looked = float("-inf")  # when at the folder
        self._lock, self._pid = threading.Lock(), os.getpid()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._look()
        except OSError as error:
            self._give_up(error)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The size of the record kept for each stored key, 0 where none is."""
        with self._held():
            ago = time.monotonic() - self._looked
            if ago > _TOUCH or (ago > _LOOK and any(_hash(key) not in self._places for key in keys)):
                self._look_quietly()
            return [self._place(_hash(key))[2] for key in keys]

    def read(self, key: bytes, view: memoryview) -> bool:
        """Read the record of a key, found to have the size of ``view``, into it. Its checksum is for the caller."""
        with self._held():
            number, offset, size = self._place(_hash(key))
            segment = self._segments.get(number)
            if segment is None or size != len(view):
                return False
            self._use(segment)
            try:
                return os.preadv(segment.handle, [view], offset) == size
            except OSError:
                return False

    def get(self, key: bytes) -> bytes | None:
        """The record of a key if it is kept and fits its checksum; what does not is dropped."""
        size = self.find([key])[0]
        stored = memoryview(bytearray(size))
        if not size or not self.read(key, stored):
            return None
        if not _sound(stored, key):
            self.drop([key])
            return None
        return bytes(stored)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Forget the records of some keys: they are damaged."""
        with self._held():
            for key in keys:
                self._places.pop(_hash(key), None)

    def put(self, records: Iterable[tuple[bytes, Any]]) -> None:
        """Keep records by stored key, those that fit their checksums and are not kept yet."""
        if self._off:
            return
        wanted = [(key, record) for key, record in records if _hash(key) not in self._places and _sound(record, key)]
        with self._held():
            try:
                for key, record in wanted:
                    if not self._off:
                        self._append(key, record)
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Close all files. They are opened again when they are used."""
        with self._held():
            self._close()

    def _held(self) -> threading.Lock:
        if self._pid != os.getpid():  # a forked child: what its parent writes, it only reads
            self._lock, self._pid, self._own = threading.Lock(), os.getpid(), None
        return self._lock

    def _place(self, hashed: int) -> tuple[int, int, int]:
        """Number of the segment, offset and size of a record; zeros when it is not kept."""
        packed = self._places.get(hashed)
        if packed is None:
            return 0, 0, 0
        number, offset, size = packed >> 80, packed >> 32 & (1 << 48) - 1, packed & 0xFFFFFFFF
        if number not in self._segments:  # removed since
            del self._places[hashed]
            return 0, 0, 0
        return number, offset, size

    def _append(self, key: bytes, record: Any) -> None:
        size = len(record)
        if not 0 < size <= self._size:
            return
        own = self._own
        if own is None or own.end + size > self._size:
            own = self._begin(size)
        if own is None:
            return
        segment, hashed = self._segments[own.number], _hash(key)
        _write(segment.handle, record, own.end)
        os.write(own.rows, np.array([hashed, own.end, size], _ROW).tobytes())
        segment.rows += 1
        self._places[hashed] = own.number << 80 | own.end << 32 | size
        self._own = own._replace(end=own.end + size + -size % ALIGN)

    def _begin(self, size: int) -> _Open | None:
        """A new segment to write, if there is room for one."""
        if self._room.closed(size):
            return None
        self._end()
        self._look()
        if not self._room.make(self._size, size):
            return None
        self._look()
        name = f"{time.time_ns():016x}-{os.getpid()}-{secrets.token_hex(4)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        index = os.open(self.folder / f"{name}{INDEX}", flags | os.O_WRONLY | os.O_APPEND, 0o600)
        handle = os.open(self.folder / f"{name}{SEGMENT}", flags | os.O_RDWR, 0o600)
        self._own = _Open(self._open(name, handle), index, 0)
        return self._own

    def _end(self) -> None:
        """Write no more to the segment that is written."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own.rows)

    def _look(self) -> None:
        """Take up what other processes wrote, and let go of what they removed."""
        self._looked = time.monotonic()
        with os.scandir(self.folder) as entries:
            names = {entry.name.removesuffix(SEGMENT) for entry in entries if entry.name.endswith(SEGMENT)}
        for name in [name for name in self._numbers if name not in names]:
            number = self._numbers.pop(name)
            os.close(self._segments.pop(number).handle)
            if self._own is not None and self._own.number == number:
                self._end()
        for name in sorted(names):
            try:
                if name not in self._numbers:
                    self._open(name, os.open(self.folder / f"{name}{SEGMENT}", os.O_RDONLY | os.O_CLOEXEC))
                self._take_up(self._numbers[name])
            except FileNotFoundError:  # removed a moment ago
                continue

    def _look_quietly(self) -> None:
        try:
            self._look()
        except OSError:  # the folder is gone: everything is fetched
            self._looked = time.monotonic()

    def _open(self, name: str, handle: int) -> int:
        number = 1 + max(self._numbers.values(), default=0)
        self._numbers[name] = number
        self._segments[number] = _Segment(name, handle)
        return number

    def _take_up(self, number: int) -> None:
        """Read the rows that were added to the index of a segment."""
        segment = self._segments[number]
        with (self.folder / f"{segment.name}{INDEX}").open("rb") as file:
            file.seek(24 * segment.rows)
            data = file.read()
        rows = np.frombuffer(data[: len(data) // 24 * 24], _ROW).reshape(-1, 3)
        segment.rows += len(rows)
        good = (rows[:, 1] < 1 << 48) & (rows[:, 2] < 1 << 32) & (rows[:, 2] > 0) & (rows[:, 2] <= _LARGEST)
        for hashed, offset, size in rows[good].tolist():
            self._places[hashed] = number << 80 | offset << 32 | size

    def _use(self, segment: _Segment) -> None:
        """Note that a segment is in use, now and then."""
        now = time.time()
        if now - segment.used > _TOUCH:
            segment.used = now
            try:
                os.utime(self.folder / f"{segment.name}{SEGMENT}")
            except OSError:  # removed, or not ours
                return

    def _give_up(self, error: OSError) -> None:
        """Keep nothing more."""
        self._off = True
        warnings.warn(
            f"records are not kept in {self.folder} any more: {error.strerror or error}; they are fetched each time",
            stacklevel=2,
        )

    def _close(self) -> None:
        self._end()
        for segment in self._segments.values():
            os.close(segment.handle)
        self._segments, self._numbers, self._places = {}, {}, {}
        self._looked = float("-inf")


def _hash(key: bytes) -> int:
    return int(xxhash.xxh3_64_intdigest(key))


def _sound(record: Any, key: bytes) -> bool:
    """Whether the bytes fit the checksum that they carry under this key."""
    try:
        return peek(record, key).checksum == checksum(record, key)
    except StoreError:
        return False


def _write(handle: int, record: Any, at: int) -> None:
    """Write all of a record; the system may take less at a time."""
    waiting = memoryview(record).cast("B")
    while waiting:
        written = os.pwrite(handle, waiting, at)
        waiting, at = waiting[written:], at + written
