"""The tar files that WebDataset reads: members of a picture, one behind the other, filled into file after file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import xxhash

from featx.errors import UsageError
from featx.formats.packed.tar_members import BLOCK, END, header
from featx.formats.values.npy import dump
from featx.record import Record
from featx.schema import Schema

SUFFIX, JSON, NPY = ".tar", "json", ".npy"
SUMS = "xxh3_64"  # of the bytes of each array, by what follows the key in the name of its member


def check_names(schema: Schema) -> None:
    """Raise UsageError for fields that webdataset, which makes them lower case, would take for one another."""
    names = [name.lower() for name in schema.names]
    if len(set(names)) < len(names):
        raise UsageError(f"of the fields {', '.join(schema.names)} two differ in case only", "export another format")


def write_shards(pictures: Iterator[bytes], folder: Path, front: bytes, limit: int) -> int:
    """Fill file after file up to ``limit`` bytes; one picture may have more. Returns the number of pictures."""
    number, waiting = 0, next(pictures, None)
    for shard in count():
        with (folder / shard_name(shard)).open("xb") as file:
            size = file.write(front) + END
            while waiting is not None and (size == len(front) + END or size + len(waiting) <= limit):
                size += file.write(waiting)
                number, waiting = number + 1, next(pictures, None)
            file.write(bytes(END))
        if waiting is None:
            break
    return number


def shard_name(number: int) -> str:
    """What file ``number`` of a folder is called, from 0."""
    return f"features-{number:06d}{SUFFIX}"


def picture_bytes(key: str, record: Record, schema: Schema) -> bytes:
    """The members of a picture."""
    arrays = {f"{_quoted(field.name)}{NPY}": dump(record.array(field.name)) for field in schema.fields}
    facts = {"key": key, "height": record.size[0], "width": record.size[1], "count": record.count}
    sums = {name: xxhash.xxh3_64_hexdigest(data) for name, data in arrays.items()}
    text = json.dumps({**facts, SUMS: sums}, ensure_ascii=False).encode()
    return b"".join(member_bytes(f"{_quoted(key)}.{name}", data) for name, data in ((JSON, text), *arrays.items()))


def member_bytes(name: str, data: bytes) -> bytes:
    """The bytes of a file in a tar."""
    return header(name, len(data)) + data + bytes(-len(data) % BLOCK)


def _quoted(name: str) -> str:
    """A name without what is read as a folder or as the end of a name."""
    return name.replace("%", "%25").replace(".", "%2E").replace("/", "%2F").replace("\\", "%5C")
