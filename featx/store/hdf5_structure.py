"""Whether a sealed HDF5 file says the same to everybody: to HDF5's readers, to ours, and in its records.

Its chunk indices, its columns and the headers of its records hold some things twice. Hashes find what changed since the
file was written; this finds what was wrong from the beginning. Nothing is mapped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.codec import HEADER_DTYPE, HEADER_SIZE, Slot
from featx.schema import Array, Schema
from featx.store.hdf5_columns import COLUMNS, OFFSET, slots_of, stays_in_place


def problems(path: Path, schema: Schema) -> Iterator[str]:
    """What does not agree, a sentence for each dataset; nothing of a file of arrays, which says all of it once.

    Chunk indices are looked at where HDF5 is new enough to list them at once, from 1.12.3 on.
    """
    try:
        with path.open("rb", buffering=0) as plain, h5py.File(path, "r", locking=False) as file:
            if not stays_in_place(schema) or OFFSET not in file:
                return
            columns = {name: _column(file[name], os.fstat(plain.fileno()).st_size) for name in COLUMNS}
            found = [_misplaced(file[slot.name], slot, columns[OFFSET]) for slot in slots_of(schema) if slot.size]
            found += _unlike(columns, _heads(plain.fileno(), columns[OFFSET]))
        yield from filter(None, found)
    except PermissionError:
        raise
    except (OSError, LookupError, ArithmeticError, RuntimeError, ValueError, TypeError) as error:
        yield f"its structure cannot be followed: {error}"


def _column(dataset: Any, most: int) -> Array:
    """A column, which must not claim to be larger than its file."""
    if dataset.nbytes > most:
        raise ValueError(f"{dataset.name} has shape {dataset.shape}, which the file cannot hold")
    found: Array = dataset[()]
    return found


def _misplaced(dataset: Any, slot: Slot, offsets: Array) -> str | None:
    """The first chunk that does not lie within its record as the schema has it."""
    if not hasattr(dataset.id, "chunk_iter"):  # get_chunk_info takes a quarter of an hour for a hundred thousand chunks
        return None
    found = np.zeros((len(offsets), 2), np.uint64)  # place and size, by number; chunk_iter stops at what is not None

    def take(chunk: Any) -> None:
        found[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(take)
    right = np.stack([offsets + np.uint64(slot.offset), np.full(len(offsets), slot.size, np.uint64)], 1)
    wrong = np.flatnonzero((found != right).any(1))
    if not len(wrong):
        return None
    (place, size), (wanted, _) = found[wrong[0]].tolist(), right[wrong[0]].tolist()
    return f"{slot.name}[{wrong[0]}] is {size} bytes at {place} for HDF5, {slot.size} at {wanted} in its record"


def _unlike(columns: dict[str, Array], heads: Array) -> Iterator[str]:
    """Columns that say something else than the headers of the records."""
    size = np.stack([heads["height"], heads["width"]], 1)
    for name in (name for name in COLUMNS if name not in ("keys", OFFSET)):
        differs = columns[name] != (size if name == "size" else heads[name])
        if differs.any():
            place = int(np.flatnonzero(differs.reshape(len(heads), -1).any(1))[0])
            yield f"{name}[{place}] is not what the header of that record says"


def _heads(handle: int, offsets: Array) -> Array:
    heads = [os.pread(handle, HEADER_SIZE, place).ljust(HEADER_SIZE, b"\0") for place in offsets.tolist()]
    return np.frombuffer(b"".join(heads), HEADER_DTYPE)
