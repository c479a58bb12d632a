"""HDF5 backend: immutable files that anybody with h5py can read.

HDF5 promises nothing to a writer that is killed. So an open part is a log (``log``), which is sealed into
``records-00000.h5`` when the part is finished or the log has grown large: written under a temporary name, synced,
renamed; then the log is removed. Where both hold a record the sealed file counts, so a crash between any two steps is
harmless.

A sealed file holds contiguous, uncompressed arrays. ``keys`` is sorted; record ``i`` has the rows
``start[i]:start[i + 1]`` of every per-region array and row ``i`` of every other. The reader asks HDF5 for the
place of each array once, and then maps the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from featx.codec import VERSION, Header, Slot, layout, pack, text, unpack
from featx.errors import StoreDamaged
from featx.schema import Array, Schema
from featx.store import disk, log
from featx.store.base import Bytes, Log, Sealed, Shard, Words
from featx.store.lmdb_file import read_meta
from featx.store.log import LogShard, RecordLog
from featx.store.manifest import file_hash

SEGMENT_BYTES = 4 << 30  # a log is sealed when it reaches this length
_GROUP_BYTES = 8 << 20  # copied at a time
_README = (
    "featx region features. Record i belongs to the picture keys[i] (sorted UTF-8); its regions are the rows "
    "start[i]:start[i+1] of features, boxes and the other per-region arrays; count[i] of them are real. boxes are "
    "x0 y0 x1 y1 in pixels of the upright original, whose (height, width) is size[i]. ordinal is the position in the "
    "source list, checksum the xxh3_64 of the record as FORMAT.md has it. dtype bfloat16 is held as its uint16 bits, "
    "int8 as uint8 codes q: x = scale * (q - zero) where (scale, zero) is the row of NAME_scale that belongs to it."
)


def open_shards(folder: Path, schema: Schema, *, sealed: bool) -> list[Shard]:
    """The sealed files of the part, and the log while there is one that they do not hold yet."""
    shards: list[Shard] = [Hdf5Shard(path, schema) for path in _segments(folder)]
    if sealed:
        return shards
    opened: LogShard | None = None
    with suppress(FileNotFoundError):
        opened = LogShard(folder / log.FILE, schema)
    if len(_segments(folder)) > len(shards):  # a writer has just sealed its log, and may have begun another
        return open_shards(folder, schema, sealed=sealed)
    if opened is None:
        return [*shards, *_journal(folder, len(shards), schema)]
    return shards if _is_sealed(opened, shards) else [*shards, opened]


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


def structure(folder: Path) -> Iterator[tuple[Path, str]]:
    """Nothing: HDF5 checks its own structures when a file is opened."""
    return iter(())


class Hdf5Shard(Shard):
    """Reads one sealed file by mapping it."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema = path, schema
        try:
            self._map()
        except PermissionError:
            raise
        except (OSError, LookupError, AttributeError, RuntimeError, ValueError, TypeError) as error:
            raise _damaged(path, str(error)) from error

    def _map(self) -> None:
        slots = _slots(self.schema)
        wanted = {**_index(0), **{slot.name: slot.dtype for slot in slots}}
        whole = np.memmap(self.path, np.uint8, "r")
        with h5py.File(self.path, "r", locking=False) as file:
            self._arrays = {name: _place(whole, file[name], dtype) for name, dtype in wanted.items()}
        self._keys, self._start = self._arrays["keys"], self._arrays["start"]
        count, rows = len(self._keys), int(self._start[-1])
        shapes = {"keys": (count,), "start": (count + 1,), "size": (count, 2)}
        shapes |= {slot.name: (rows if slot.field.per == "region" else count, *slot.tail) for slot in slots}
        for name, array in self._arrays.items():
            if array.shape != shapes.get(name, (count,)):
                raise ValueError(f"{name} has shape {array.shape}, expected {shapes.get(name, (count,))}")

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._find(key) is not None

    def get(self, key: bytes) -> bytes | None:
        place = self._find(key)
        if place is None:
            return None
        first, last = int(self._start[place]), int(self._start[place + 1])
        if not 0 <= first <= last <= self._start[-1]:
            raise _damaged(self.path, f"record {text(key)!r} has the rows {first} to {last}")
        rows = slice(first, last)
        arrays = [self._arrays[s.name][rows if s.field.per == "region" else place] for s in _slots(self.schema)]
        return pack(self._header(place), arrays)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._keys)

    def headers(self) -> Iterator[tuple[bytes, Header]]:
        return ((bytes(key), self._header(place)) for place, key in enumerate(self._keys))

    def close(self) -> None:
        self._arrays, self._keys, self._start = {}, np.empty(0, "S1"), np.zeros(1, np.int64)

    def words(self) -> Words:
        arrays = {name: array.ctypes.data for name, array in self._arrays.items()}
        facts = (VERSION, len(self._keys), self._keys.itemsize, int(self._start[-1]))
        slots = (slot.name for slot in _slots(self.schema))
        rest = (*facts, *(arrays[name] for name in (*_index(0), *slots)))
        return Words((1,), rest, len(self._keys), self._arrays)

    @cached_property
    def frame(self) -> str:  # type: ignore[override]
        state = xxhash.xxh3_128()
        for name in _index(0):
            state.update(np.ascontiguousarray(self._arrays[name]).reshape(-1).view(np.uint8).data)
        return state.hexdigest()

    def _find(self, key: bytes) -> int | None:
        if len(key) > self._keys.itemsize:  # numpy would widen, that is copy, all keys to compare
            return None
        place = int(np.searchsorted(self._keys, np.array(key, self._keys.dtype)))
        return place if place < len(self._keys) and self._keys[place] == key else None

    def _header(self, place: int) -> Header:
        size, rows = self._arrays["size"][place], int(self._start[place + 1]) - int(self._start[place])
        count, ordinal, checksum = (int(self._arrays[name][place]) for name in ("count", "ordinal", "checksum"))
        return Header(rows, count, int(size[0]), int(size[1]), ordinal, checksum)


class Hdf5Log(Log):
    """Appends groups to ``records.log``, and makes HDF5 files of it."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder, self.schema = folder, schema
        for left in folder.glob(".records-*.tmp"):
            disk.remove(left)
        self._sealed: list[Shard] = [Hdf5Shard(path, schema) for path in _segments(folder)]
        self._log = RecordLog(folder / log.FILE)
        if _is_sealed(self._log, self._sealed):
            self._begin_anew()

    def __contains__(self, key: object) -> bool:
        return key in self._log or any(key in shard for shard in self._sealed)

    def append(self, group: Mapping[bytes, Bytes]) -> None:
        if len(self._log) and self._log.size >= SEGMENT_BYTES:  # before: what fails here has not stored the group
            self._seal_log()
            self._begin_anew()
        self._log.append(group)

    def seal(self) -> Sealed:
        if len(self._log):
            self._seal_log()
        disk.remove(self._log.path)
        paths = [shard.path for shard in self._sealed]
        heads = chain.from_iterable(shard.headers() for shard in self._sealed)
        return Sealed({path.name: file_hash(path) for path in paths}, ((key, head.checksum) for key, head in heads))

    def close(self) -> None:
        for shard in self._sealed:
            shard.close()

    def _seal_log(self) -> None:
        path = self.folder / f"records-{len(self._sealed):05d}.h5"
        opened = LogShard(self._log.path, self.schema)
        try:
            _write(disk.temporary(path), opened, self.schema)
        except RuntimeError as error:  # how h5py tells that the disk was full when it closed the file
            raise OSError(f"{path.name}: {error}") from error
        finally:
            opened.close()
        disk.settle(path)
        self._sealed.append(Hdf5Shard(path, self.schema))

    def _begin_anew(self) -> None:
        """An empty log in the place of one that was sealed."""
        disk.remove(self._log.path)
        self._log = RecordLog(self._log.path)


def _slots(schema: Schema) -> tuple[Slot, ...]:
    """The arrays that hold the fields of the schema."""
    return layout(schema, 0)[0]


def _segments(folder: Path) -> list[Path]:
    # A glob would pass over a folder that may not be read.
    return sorted(path for path in folder.iterdir() if path.match("records-*.h5"))


def _index(width: int) -> dict[str, Any]:
    """dtypes of the arrays that are not fields of the schema."""
    return {
        "keys": np.dtype(f"S{width}"),
        "start": np.dtype("<i8"),
        "count": np.dtype("<u4"),
        "size": np.dtype("<u4"),
        "ordinal": np.dtype("<u8"),
        "checksum": np.dtype("<u8"),
    }


def _write(path: Path, opened: LogShard, schema: Schema) -> None:
    """Write all records of ``opened``, verifying each, as one HDF5 file."""
    keys, heads = zip(*opened.headers(), strict=True)
    start = np.cumsum([0, *(head.rows for head in heads)], dtype=np.int64)
    dtypes = _index(max(map(len, keys)))
    # From version 1.10 on HDF5 protects its own structures by checksums; alignment is for those who map the file.
    with h5py.File(path, "w", libver="v110", alignment_threshold=64, alignment_interval=64) as file:
        file.attrs.update({"format": "featx", "version": 1, "readme": _README, "schema": json.dumps(schema.to_dict())})
        columns = {
            "keys": np.array(keys, dtypes["keys"]).astype(h5py.string_dtype("utf-8", dtypes["keys"].itemsize)),
            "start": start,
            "size": np.array([(head.height, head.width) for head in heads], dtypes["size"]),
        }
        columns |= {n: np.array([getattr(h, n) for h in heads], dtypes[n]) for n in ("count", "ordinal", "checksum")}
        for name, column in columns.items():
            file.create_dataset(name, data=column)
        places = [_reserve(file, slot, int(start[-1]), len(keys)) for slot in _slots(schema)]
    _fill(path, places, opened, schema, keys, start)


def _reserve(file: Any, slot: Slot, rows: int, count: int) -> int:
    """Make the array of a slot, still without content. Returns where its bytes are to lie."""
    wanted = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    wanted.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    wanted.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    shape = (rows if slot.field.per == "region" else count, *slot.tail)
    made = file.create_dataset(slot.name, shape, slot.dtype, dcpl=wanted)
    made.attrs.update({"dtype": slot.field.dtype if slot.name == slot.field.name else "float32", "per": slot.field.per})
    return int(made.id.get_offset() or 0)


def _fill(
    path: Path, places: Sequence[int], opened: LogShard, schema: Schema, keys: tuple[bytes, ...], start: Array
) -> None:
    """Write the payloads to where HDF5 wants them, a group of records at a time."""
    memory, done = bytearray(_GROUP_BYTES), 0
    while done < len(keys):
        records = [unpack(record, schema, key)[1] for key, record in opened.read_into(memory, keys[done:])]
        for number, (place, slot) in enumerate(zip(places, _slots(schema), strict=True)):
            before = int(start[done]) if slot.field.per == "region" else done
            size = prod(slot.tail) * slot.dtype.itemsize
            pieces = [record[number].reshape(-1).view(np.uint8) for record in records]
            disk.current.write(path, pieces, place + before * size)
        done += len(records)


def _place(whole: Array, dataset: Any, dtype: np.dtype[Any]) -> Array:
    """The array of a contiguous dataset as a view of the mapped file."""
    if dataset.dtype.kind != dtype.kind or (dtype.itemsize and dataset.dtype != dtype):
        raise ValueError(f"{dataset.name} has dtype {dataset.dtype}, expected {dtype}")
    if not dataset.size:  # HDF5 gives no place to an empty array
        return np.empty(dataset.shape, dataset.dtype)
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.nbytes > len(whole):
        raise ValueError(f"{dataset.name} is not contiguous, or ends behind the end of the file")
    return np.ndarray(dataset.shape, dataset.dtype.str, whole, offset)


def _damaged(path: Path, what: str) -> StoreDamaged:
    return StoreDamaged(f"{path} is damaged: {what}", "run `featx verify` on the store")
