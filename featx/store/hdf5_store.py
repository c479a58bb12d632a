"""HDF5 backend: immutable files that anybody with h5py can read.

HDF5 promises nothing to a writer that is killed. So an open part is a log (``log``), which is sealed into
``records-00000.h5`` when the part is finished or the log has grown large. Records that are all as long as each other
stay where they are, and what HDF5 needs is added behind them (``hdf5_appendix``); others are copied, under a temporary
name, into arrays (``hdf5_arrays``), and the log is removed. Where both hold a record the sealed file counts, so a
crash between any two steps is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import chain
from pathlib import Path

from featx.schema import Schema
from featx.store import disk, log
from featx.store.base import Bytes, Log, Sealed, Shard
from featx.store.hdf5_appendix import appendix, columns_of
from featx.store.hdf5_arrays import write_arrays
from featx.store.hdf5_columns import stays_in_place
from featx.store.hdf5_sealed import Hdf5Shard, PlacedShard, damaged, open_file
from featx.store.hdf5_structure import problems
from featx.store.lmdb_file import read_meta
from featx.store.log import RecordLog
from featx.store.log_shard import LogShard
from featx.store.manifest import TAIL, file_hash

SEGMENT_BYTES = 4 << 30  # a log is sealed when it reaches this length


def open_shards(folder: Path, schema: Schema, *, sealed: bool) -> list[Shard]:
    """The sealed files of the part, and the log while there is one that they do not hold yet."""
    while True:
        with ExitStack() as stack:
            shards = [stack.enter_context(closing(open_file(path, schema))) for path in _segments(folder)]
            more = [] if sealed else _unsealed(folder, schema, shards, stack)
            if more is not None:
                stack.pop_all()  # from here on they are the caller's to close
                return [*shards, *more]


def _unsealed(folder: Path, schema: Schema, sealed: Sequence[Shard], stack: ExitStack) -> list[Shard] | None:
    """What was committed behind the sealed files, closed by ``stack``; None when there are more of these by now."""
    opened: LogShard | None = None
    with suppress(FileNotFoundError):
        opened = stack.enter_context(closing(LogShard(folder / log.FILE, schema)))
    if len(_segments(folder)) > len(sealed):  # a writer has just sealed its log, and may have begun another
        return None
    if opened is None:
        return _journal(folder, len(sealed), schema)
    if _is_sealed(opened, sealed):
        opened.close()
        return []
    return [opened]


def _journal(folder: Path, number: int, schema: Schema) -> list[Shard]:
    """The open part of a store of format 1: an LMDB file."""
    path = folder / f"journal-{number:05d}.lmdb"
    if not read_meta(path):
        return []
    from featx.store.format_1 import LmdbShard

    return [LmdbShard(path, schema)]


def _is_sealed(opened: LogShard | RecordLog, shards: Sequence[Shard]) -> bool:
    """Whether the log was sealed already, as the last of the files, and only not removed."""
    return bool(shards) and next((key in opened for key in shards[-1]), False)


def open_log(folder: Path, schema: Schema) -> Hdf5Log:
    """The part for appending."""
    return Hdf5Log(folder, schema)


def structure(folder: Path, schema: Schema) -> Iterator[tuple[Path, str]]:
    """Where a file contradicts itself. That its structures are whole, HDF5 checks itself when it is opened."""
    return ((path, what) for path in _segments(folder) for what in problems(path, schema))


class Hdf5Log(Log):
    """Appends groups to ``records.log``, and makes HDF5 files of it."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder, self.schema = folder, schema
        for left in folder.glob(".records-*.tmp"):
            disk.remove(left)
        self._sealed: list[Hdf5Shard] = [open_file(path, schema) for path in _segments(folder)]
        self._hashes: dict[str, str] = {}  # of files that were sealed by this writer
        self._log: RecordLog | None = self._begin()
        if _is_sealed(self._log, self._sealed):
            self._log = self._begin_anew()

    def __contains__(self, key: object) -> bool:
        return (self._log is not None and key in self._log) or any(key in shard for shard in self._sealed)

    def append(self, group: Mapping[bytes, Bytes]) -> None:
        if self._log is not None and len(self._log) and self._log.size >= SEGMENT_BYTES:
            self._seal(self._log)  # before: what fails here has not stored the group
        if self._log is None:
            self._log = self._begin_anew()
        self._log.append(group)

    def seal(self) -> Sealed:
        if self._log is not None and len(self._log):
            self._seal(self._log)
        disk.remove(self.folder / log.FILE)
        hashes = {shard.path.name: self._hashes.get(shard.path.name) or _hash(shard) for shard in self._sealed}
        shards, self._sealed = self._sealed, []
        return Sealed(hashes, chain.from_iterable(shard.checksums() for shard in shards), shards)

    def close(self) -> None:
        for shard in self._sealed:
            shard.close()

    def _seal(self, opened: RecordLog) -> None:
        opened.check()
        path = self.folder / f"records-{self._next():05d}.h5"
        if path.exists():  # whoever put it there: a file that was sealed is never written over
            raise damaged(path, "it has come here since, and another was to get its name")
        if stays_in_place(self.schema):
            columns = columns_of(opened.path, opened.index.places, self.schema)
            front, behind = appendix(columns, self.schema, opened.size)
            self._hashes[path.name] = opened.seal(path, front, behind)
        else:
            write_arrays(disk.temporary(path), opened.path, self.schema)
            disk.settle(path)
        self._sealed.append(open_file(path, self.schema))
        self._log = None

    def _next(self) -> int:
        """The number behind that of the last file, whatever became of those before it."""
        return int(self._sealed[-1].path.stem.rpartition("-")[2]) + 1 if self._sealed else 0

    def _begin(self) -> RecordLog:
        return RecordLog(self.folder / log.FILE, hashed=stays_in_place(self.schema))

    def _begin_anew(self) -> RecordLog:
        """An empty log, in the place of one that was sealed if that is still there."""
        disk.remove(self.folder / log.FILE)
        return self._begin()


def _hash(shard: Hdf5Shard) -> str:
    return file_hash(shard.path, like=TAIL if isinstance(shard, PlacedShard) else "")


def _segments(folder: Path) -> list[Path]:
    # A glob would pass over a folder that may not be read.
    return sorted(path for path in folder.iterdir() if path.match("records-*.h5"))
