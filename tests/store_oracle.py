"""Records that can be computed again from their key, so that a test knows what every store must hold.

Also the program that the crash tests kill: ``python -m tests.store_oracle PATH KIND COUNT``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featx.record import Record
from featx.schema import Field, Schema
from featx.store import PartWriter, create_store, open_part

SCHEMA = Schema(
    (
        Field("features", "float16", (96,)),
        Field("boxes", "float32", (4,)),
        Field("object_ids", "int32"),
        Field("pooled", "float32", (5,), "picture"),
    )
)
FIXED = Schema(SCHEMA.fields, rows=14)
PROVENANCE = {"profile": {"name": "oracle", "version": 1}, "weights": "sha256:00"}
REFUSED = 7  # every seventh picture is refused


class Kind(NamedTuple):
    """A backend, and records that it seals in one of its ways."""

    backend: str
    schema: Schema


KINDS = {"lmdb": Kind("lmdb", SCHEMA), "hdf5": Kind("hdf5", SCHEMA), "hdf5-fixed": Kind("hdf5", FIXED)}


def record_of(key: str, schema: Schema = SCHEMA, rows: int | None = None) -> Record:
    """The record that belongs to ``key``: 12 to 20 rows (3 to 7 KB), or ``rows``."""
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    rows = (schema.rows or int(rng.integers(12, 21))) if rows is None else rows
    height, width = (int(n) for n in rng.integers(50, 700, 2))
    corners = np.sort(rng.random((rows, 2, 2), np.float32), axis=1) * np.array([width, height], np.float32)
    arrays = {}
    for field in schema.extras:
        shape = field.shape_for(rows)
        floats = field.memory_dtype.kind == "f"
        arrays[field.name] = (rng.normal(size=shape) if floats else rng.integers(0, 99, shape)).astype(
            field.memory_dtype
        )
    features = np.maximum(rng.normal(size=(rows, schema.dim)), 0).astype(schema.fields[0].memory_dtype)
    if schema.fields[0].dtype == "bfloat16":  # values that bfloat16 can hold
        features = (features.view("<u4") & 0xFFFF0000).view("<f4")
    return Record(features, corners.reshape(rows, 4).astype(np.float32), (height, width), extra=arrays)


def names(count: int) -> list[str]:
    """Keys, in the order of the source list; that is not their sorted order."""
    return [f"{hashlib.md5(str(n).encode()).hexdigest()[:6]}/picture {n}.jpg" for n in range(count)]


def write_missing(writer: PartWriter, keys: Iterable[tuple[int, str]], group: int = 3) -> list[str]:
    """What a runner does: everything that is not done, in groups. Returns the keys it had to compute."""
    computed = []
    for ordinal, key in keys:
        if key in writer.done:
            continue
        computed.append(key)
        if ordinal % REFUSED == REFUSED - 1:
            writer.refuse(key, ordinal, f"/photos/{key}", "empty", "the file has no bytes")
        else:
            writer.put(key, record_of(key, writer.schema), ordinal)
        if len(computed) % group == 0:
            writer.commit()
    writer.commit()
    return computed


def make_store(path: Path, backend: str, count: int = 20, parts: int = 1, schema: Schema = SCHEMA) -> Path:
    """A complete store of ``count`` pictures, one in seven refused, dealt out to the parts in turn."""
    create_store(path, backend, schema, PROVENANCE, parts=parts)
    for part in range(parts):
        with open_part(path, part) as writer:
            write_missing(writer, list(enumerate(names(count)))[part::parts])
            writer.finish()
    return path


def main(path: str, kind: str, count: str) -> None:
    """Write a store of one part, and say on stdout what is durable as soon as it is."""
    create_store(path, *KINDS[kind], PROVENANCE)
    with open_part(path) as writer:
        print("opened", flush=True)
        if writer.finished is None:
            for place in range(0, int(count), 2):
                pair = list(enumerate(names(int(count))))[place : place + 2]
                for key in write_missing(writer, pair):
                    print(key, flush=True)
        writer.finish()
    print("finished", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
