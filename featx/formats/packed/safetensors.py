"""Safetensors (huggingface/safetensors, README, "Format"): a tensor for every array of every picture, ``KEY/FIELD``.

So a picture is read by its name alone, from a file that is mapped, without offsets to be kept beside it::

    with safe_open("coco.safetensors", "pt") as file:
        features = file.get_tensor("COCO_val2014_000000000042/features")    # [n, D], in the dtype of the store

``KEY/features`` [n, D], ``KEY/boxes`` float32 [n, 4] in pixels, ``KEY/size`` int32 [height, width], and every other
field of the store; ``KEY/count`` int32 [1] where some of the n rows are padding. bfloat16 is BF16. The metadata hold
``format: pt`` and, as JSON text, schema, labels and provenance. The library holds the names of all tensors of a file
in memory, and the format ends at 100 MB of them, which is some 150,000 pictures. So a name that ends in
``.safetensors`` is one file, and any other a folder of files ``features-00001-of-00003.safetensors`` of ``shard_size``
bytes (4 GB) and 4 MB of names at most, with ``features.safetensors.index.json`` beside them, as transformers has
them.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from sys import intern
from typing import BinaryIO, NamedTuple

from featx.errors import UsageError
from featx.formats.base import Item, Survey, item_of
from featx.formats.description import NAME, Described, Description, undescribed
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.packed.safetensors_header import LONGEST, Front, Tensor, json_of, load, read_front
from featx.formats.packed.safetensors_write import (
    COUNT,
    FILLER,
    SIZE,
    check_names,
    counted,
    front_of,
    plan,
    write_index,
    write_shard,
)
from featx.formats.publish import published_file, published_folder
from featx.formats.records import Records
from featx.formats.regions import whole
from featx.formats.shards import members, shard_facts, shard_size
from featx.record import Record

SUFFIX = ".safetensors"
_INDEX = f"features{SUFFIX}.index.json"
_SHARD_DATA, _SHARD_FRONT = 4 << 30, 4 << 20  # bytes of a file of several
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_BROKEN = "it is no safetensors file, or one that was cut in its header, without which nothing in it can be found"


class _Picture(NamedTuple):
    """What a file has of a picture: where it begins, and its tensors by field; or what is wrong."""

    place: str
    key: str
    tensors: dict[str, Tensor]
    file: BinaryIO
    size: int
    problem: str = ""


class Safetensors(Described):
    """Safetensors."""

    name = "safetensors"
    title = "safetensors"
    source = "huggingface/safetensors, README.md (Format)"
    suffix = SUFFIX
    gives = frozenset({"shard_size"})

    def detect(self, path: Path) -> bool:
        """By a header that names features and boxes."""
        try:
            return any(_names_regions(place) for place in members(path, SUFFIX))
        except OSError:
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        return Survey(sum(1 for _ in _pictures(path)), self.facts(path, shard_facts(path, SUFFIX)))

    def describe(self, path: Path) -> Description | None:
        for place in members(path, SUFFIX):
            with suppress(ValueError), place.open("rb") as file:
                if told := read_front(file, place.stat().st_size).metadata.get(NAME):
                    return Description.load(told)
        return None

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, told = Sizes.of(options), self.describe(path)
        for number, picture in enumerate(_pictures(path)):
            if number >= start:
                yield _item(number, picture, told, options, sizes)

    def write(self, records: Records, path: Path, options: Options) -> int:
        check_names(records.schema)
        records = records.padded()
        front = front_of({"format": "pt", NAME: Description.of(records).dump()})
        size = shard_size(path, SUFFIX, options, _SHARD_DATA)
        return _write_several(records, path, front, size) if size else _write_one(records, path, front)


def _write_one(records: Records, path: Path, front: bytes) -> int:
    shards = plan(records, front, LONGEST, None)
    if len(shards) > 1:
        raise UsageError(
            f"the names of all pictures take more than {LONGEST:,} bytes, which is the most that safetensors hold",
            f"leave out {SUFFIX} at the end of the name: a folder of several files is written then",
        )
    with published_file(path) as file:
        write_shard(file, shards[0], records.schema, front, counted(records), iter(records))
    return shards[0].pictures


def _write_several(records: Records, path: Path, front: bytes, most: int) -> int:
    shards = plan(records, front, _SHARD_FRONT, most)
    names = [f"features-{n:05d}-of-{len(shards):05d}{SUFFIX}" for n in range(1, len(shards) + 1)]
    pictures, data = counted(records), iter(records)
    with published_folder(path, lambda name: name == _INDEX or name.endswith(SUFFIX)) as folder:
        for name, shard in zip(names, shards, strict=True):
            with (folder / name).open("xb") as file:
                write_shard(file, shard, records.schema, front, pictures, data)
        with (folder / _INDEX).open("xb") as file:
            write_index(file, names, shards, records)
    return sum(shard.pictures for shard in shards)


def _names_regions(path: Path) -> bool:
    with suppress(ValueError), path.open("rb") as file:
        text = json_of(file, path.stat().st_size)
        return b'/features"' in text and b'/boxes"' in text
    return False


def _pictures(path: Path) -> Iterator[_Picture]:
    """The pictures of a source in the order of their bytes, and the places of each file where one was lost."""
    files = members(path, SUFFIX)
    for place in files:
        prefix = f"{place.name}, " if path.is_dir() else ""
        size = place.stat().st_size
        with place.open("rb") as file:
            try:
                front = read_front(file, size)
            except ValueError as error:
                if not path.is_dir():
                    raise UsageError(f"{path} cannot be read: {error}", _BROKEN) from None
                yield _Picture(f"{prefix}byte 0", "", {}, file, size, f"the file cannot be read: {error}")
                continue
            yield from _of_file(front, file, size, prefix)
    for name in _absent(files) if path.is_dir() else ():
        yield _Picture(f"file {name}", "", {}, io.BytesIO(), 0, "this file of several is not in the folder")


def _of_file(front: Front, file: BinaryIO, size: int, prefix: str) -> Iterator[_Picture]:
    pictures: dict[str, dict[str, Tensor]] = defaultdict(dict)
    while front.tensors:  # there may be a million: they are moved, not copied
        name, tensor = front.tensors.popitem()
        key, _, field = name.rpartition("/")
        if field != FILLER:
            pictures[key][intern(field)] = tensor
    for key in sorted(pictures, key=lambda key: _begin(pictures[key])):
        yield _Picture(f"{prefix}byte {_begin(pictures[key])}", key, pictures[key], file, size)
    for place, problem in front.problems:
        yield _Picture(f"{prefix}byte {place}", "", {}, file, size, problem)
    if NAME in front.metadata:
        try:
            Description.load(front.metadata[NAME])
        except ValueError as error:
            yield _Picture(f"{prefix}byte 8", "", {}, file, size, str(error))


def _begin(tensors: dict[str, Tensor]) -> int:
    return min(tensor.begin for tensor in tensors.values())


def _absent(files: list[Path]) -> list[str]:
    """Names of files that belong to those that are there, by their numbers."""
    found = {match[0]: match for place in files if (match := _NUMBERED.fullmatch(place.name))}
    several = {(match[1], match[3]) for match in found.values()}
    wanted = (f"{name}-{n:05d}-of-{of}{SUFFIX}" for name, of in sorted(several) for n in range(1, int(of) + 1))
    return [name for name in wanted if name not in found]


def _item(number: int, picture: _Picture, told: Description | None, options: Options, sizes: Sizes) -> Item:
    def key() -> str:
        if picture.problem:
            raise ValueError(picture.problem)
        if not picture.key:
            raise ValueError(f"tensors {[*picture.tensors]!r:.200} are of no picture: their names are not KEY/FIELD")
        return key_of(picture.key, options)

    def record(key: str) -> Record:
        return _record(picture, told, sizes.find(key), options)

    return item_of(number, picture.place, key, record, (OSError,))


def _record(picture: _Picture, told: Description | None, size: tuple[int, int] | None, options: Options) -> Record:
    values = {
        name: load(picture.file, f"{picture.key}/{name}", tensor, picture.size)
        for name, tensor in picture.tensors.items()
    }
    sides = values.pop(SIZE, None)
    if sides is not None:
        if sides.shape != (2,) or sides.dtype.kind != "i":
            raise ValueError(f"{SIZE} is {sides.dtype}{list(sides.shape)}, expected height and width")
        size = size or (int(sides[0]), int(sides[1]))
    count = whole(values.pop(COUNT), COUNT) if COUNT in values else None
    if told is None:
        return undescribed(values, size, count, options.background)
    if size is None:
        raise ValueError(f"it has no {SIZE}")
    return told.record(values, size, count)
