"""The records of a log, taken apart into contiguous arrays: an HDF5 file for records that differ in their rows.

Every byte is copied once. ``start`` says which rows are whose.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.codec import Slot, unpack
from featx.schema import Array, Schema
from featx.store import disk
from featx.store.hdf5_columns import ARRAY_COLUMNS, readme, slot_attributes, slots_of
from featx.store.log_shard import LogShard

_GROUP_BYTES = 8 << 20  # copied at a time
_README = readme("its regions are the rows start[i]:start[i+1] of features, boxes and the other per-region arrays")


def write_arrays(path: Path, log: Path, schema: Schema) -> None:
    """Write all records of a log, verifying each, as one HDF5 file. Raises OSError, StoreDamaged."""
    opened = LogShard(log, schema)
    try:
        _write(path, opened, schema)
    except RuntimeError as error:  # how h5py tells that the disk was full when it closed the file
        raise OSError(f"{path.name}: {error}") from error
    finally:
        opened.close()


def _write(path: Path, opened: LogShard, schema: Schema) -> None:
    keys, heads = zip(*opened.headers(), strict=True)
    start = np.cumsum([0, *(head.rows for head in heads)], dtype=np.int64)
    # From version 1.10 on HDF5 protects its own structures by checksums; alignment is for those who map the file.
    with h5py.File(path, "w", libver="v110", alignment_threshold=64, alignment_interval=64) as file:
        file.attrs.update({"format": "featx", "version": 1, "readme": _README, "schema": json.dumps(schema.to_dict())})
        width, dtypes = max(map(len, keys)), ARRAY_COLUMNS
        columns = {
            "keys": np.array(keys, f"S{width}").astype(h5py.string_dtype("utf-8", width)),
            "start": start,
            "size": np.array([(head.height, head.width) for head in heads], dtypes["size"]),
        }
        columns |= {n: np.array([getattr(h, n) for h in heads], dtypes[n]) for n in ("count", "ordinal", "checksum")}
        for name, column in columns.items():
            file.create_dataset(name, data=column)
        places = [_reserve(file, slot, int(start[-1]), len(keys)) for slot in slots_of(schema)]
    _fill(path, places, opened, schema, keys, start)


def _reserve(file: Any, slot: Slot, rows: int, count: int) -> int:
    """Make the array of a slot, still without content. Returns where its bytes are to lie."""
    wanted = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    wanted.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    wanted.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    shape = (rows if slot.field.per == "region" else count, *slot.tail)
    made = file.create_dataset(slot.name, shape, slot.dtype, dcpl=wanted)
    made.attrs.update(slot_attributes(slot))
    return int(made.id.get_offset() or 0)


def _fill(
    path: Path, places: Sequence[int], opened: LogShard, schema: Schema, keys: tuple[bytes, ...], start: Array
) -> None:
    """Write the payloads to where HDF5 wants them, a group of records at a time."""
    memory, done = bytearray(_GROUP_BYTES), 0
    while done < len(keys):
        records = [unpack(record, schema, key)[1] for key, record in opened.read_into(memory, keys[done:])]
        for number, (place, slot) in enumerate(zip(places, slots_of(schema), strict=True)):
            before = int(start[done]) if slot.field.per == "region" else done
            size = prod(slot.tail) * slot.dtype.itemsize
            pieces = [record[number].reshape(-1).view(np.uint8) for record in records]
            disk.current.write(path, pieces, place + before * size)
        done += len(records)
