"""WebDataset (webdataset/webdataset): tar files in which the members of a picture follow one another.

``KEY.json`` with ``key``, ``height``, ``width``, ``count`` (real rows; the others are padding) and checksums of the
arrays, then ``KEY.features.npy`` [n, D], ``KEY.boxes.npy`` float32 [n, 4] in pixels, and so every field of the store.
``webdataset.WebDataset(...).decode()`` makes arrays and a dictionary of them without being told how::

    for sample in webdataset.WebDataset("coco/features-{000000..000011}.tar").decode():
        sample["json"]["key"], sample["features.npy"], sample["boxes.npy"]

There a name ends at its first dot, and a slash is a folder. So in member names ``%``, ``.``, ``/`` and ``\\`` of a key
are ``%25``, ``%2E``, ``%2F`` and ``%5C``, which ``urllib.parse.unquote`` takes back; the key itself is in the JSON. The
first member of each file, ``__featx__``, is JSON with schema, labels and provenance; webdataset passes over such names.
A name that ends in ``.tar`` is one file, any other a folder of files of ``shard_size`` bytes at most (1 GB).
bfloat16 and int8 are float32 here, with the values that they read as.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

import xxhash

from featx.formats.base import Item, Survey, item_of
from featx.formats.description import NAME, Described, Description, undescribed
from featx.formats.naming import Sizes, key_of
from featx.formats.options import Options
from featx.formats.packed.tar_members import BLOCK, END, Member, tar_members
from featx.formats.packed.webdataset_write import (
    JSON,
    NPY,
    SUFFIX,
    SUMS,
    check_names,
    member_bytes,
    picture_bytes,
    shard_name,
    write_shards,
)
from featx.formats.publish import published_file, published_folder
from featx.formats.records import Records
from featx.formats.regions import whole
from featx.formats.shards import members, shard_facts, shard_size
from featx.formats.values.npy import parse
from featx.record import Record
from featx.schema import Array

_META = f"__{NAME}__"
_LONGEST_JSON = 64 << 20  # bytes
_SHARD = 1_000_000_000  # bytes
_NUMBERED = re.compile(r"features-(\d{6})\.tar")
_TRIED = 64  # members that are looked at to know the format


class _Sample(NamedTuple):
    """The members of a picture by what follows the first dot of their names; or what is wrong."""

    place: str
    name: str
    members: Mapping[str, Member]
    file: BinaryIO
    problem: str = ""


class WebDataset(Described):
    """WebDataset."""

    name = "webdataset"
    title = "WebDataset"
    source = "webdataset/webdataset, tariterators.py and autodecode.py"
    suffix = SUFFIX
    gives = frozenset({"shard_size"})

    def detect(self, path: Path) -> bool:
        """By the names of its first members."""
        try:
            return any(_has_regions(place) for place in members(path, SUFFIX))
        except OSError:
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        return Survey(sum(1 for _ in _samples(path)), self.facts(path, shard_facts(path, SUFFIX)))

    def describe(self, path: Path) -> Description | None:
        for place in members(path, SUFFIX):
            with place.open("rb") as file, suppress(ValueError):
                for member in islice(tar_members(file, place.stat().st_size), 1):
                    if member.name == _META:
                        return Description.load(_read(file, member, _LONGEST_JSON))
        return None

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, told = Sizes.of(options), self.describe(path)
        for number, sample in enumerate(_samples(path)):
            if number >= start:
                yield _item(number, sample, told, options, sizes)

    def write(self, records: Records, path: Path, options: Options) -> int:
        schema, description = records.schema, Description.of(records).dump().encode()
        check_names(schema)
        pictures = (picture_bytes(key, record, schema) for key, record in records.padded())
        front = member_bytes(_META, description)
        if size := shard_size(path, SUFFIX, options, _SHARD):
            with published_folder(path, lambda name: name.endswith(SUFFIX)) as folder:
                return write_shards(pictures, folder, front, size)
        with published_file(path) as file:
            file.write(front)
            number = sum(bool(file.write(picture)) for picture in pictures)
            file.write(bytes(END))
        return number


def _has_regions(path: Path) -> bool:
    """Whether the first members are ours, or features and boxes; of what is no tar by its beginning or name, no."""
    with path.open("rb") as file:
        if file.read(BLOCK)[257:262] != b"ustar" and path.suffix != SUFFIX:
            return False
        names = [member.name for member in islice(tar_members(file, path.stat().st_size), _TRIED)]
    wanted = [f".{field}{NPY}" for field in ("features", "boxes")]
    return _META in names or all(any(name.endswith(end) for name in names) for end in wanted)


def _samples(path: Path) -> Iterator[_Sample]:
    """The pictures of a source, file after file, and the places where one was lost."""
    files = members(path, SUFFIX)
    for place in files:
        prefix = f"{place.name}, " if path.is_dir() else ""
        with place.open("rb") as file:
            yield from _of_file(file, place.stat().st_size, prefix)
    numbers = {int(found[1]) for place in files if (found := _NUMBERED.fullmatch(place.name))}
    for number in sorted({*range(max(numbers, default=0))} - numbers if numbers else ()):
        name = shard_name(number)
        yield _Sample(f"file {name}", "", {}, io.BytesIO(), "this file of several is not in the folder")


def _of_file(file: BinaryIO, size: int, prefix: str) -> Iterator[_Sample]:
    """Members that follow one another and have one name up to the first dot behind the last slash are a picture."""
    found: dict[str, Member] = {}
    name, begin, lost = "", 0, []
    for member in tar_members(file, size):
        if member.problem or member.name == _META:
            if problem := member.problem or _misdescribed(file, member):
                lost.append(_Sample(f"{prefix}byte {member.place}", "", {}, file, problem))
            continue
        folder, _, last = member.name.rpartition("/")
        stem, dot, rest = last.partition(".")
        if not dot:
            continue  # webdataset does not take it either
        whole_name = f"{folder}/{stem}" if folder else stem
        if found and whole_name != name:
            yield _Sample(f"{prefix}byte {begin}", name, found, file)
            found = {}
            yield from lost
            lost = []
        if not found:
            name, begin = whole_name, member.place
        found[rest.lower()] = member
    if found:
        yield _Sample(f"{prefix}byte {begin}", name, found, file)
    yield from lost


def _misdescribed(file: BinaryIO, member: Member) -> str:
    try:
        Description.load(_read(file, member, _LONGEST_JSON))
    except ValueError as error:
        return str(error)
    return ""


def _item(number: int, sample: _Sample, told: Description | None, options: Options, sizes: Sizes) -> Item:
    facts = cache(lambda: _facts(sample))

    def key() -> str:
        return key_of(str(facts().get("key", unquote(sample.name) if told else sample.name)), options)

    def record(key: str) -> Record:
        return _record(sample, facts(), told, sizes.find(key), options)

    return item_of(number, sample.place, key, record, (OSError,))


def _facts(sample: _Sample) -> dict[str, Any]:
    """What the JSON of a picture says; nothing where there is none. Raises ValueError."""
    if sample.problem:
        raise ValueError(sample.problem)
    if JSON not in sample.members:
        return {}
    try:
        facts = json.loads(_read(sample.file, sample.members[JSON], _LONGEST_JSON))
        return {str(name): value for name, value in facts.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {JSON} cannot be read: {error!s:.200}") from None


def _record(
    sample: _Sample, facts: dict[str, Any], told: Description | None, size: tuple[int, int] | None, options: Options
) -> Record:  # fmt: skip
    sums = facts.pop(SUMS, None)
    sums = {name.lower(): digest for name, digest in sums.items()} if isinstance(sums, dict) else {}
    arrays = {unquote(rest.removesuffix(NPY)): rest for rest in sample.members if rest.endswith(NPY)}
    if told:
        lower = {field.name.lower(): field.name for field in told.schema.fields}
        arrays = {lower[name]: rest for name, rest in arrays.items() if name in lower}
    values = {name: _array(sample, rest, sums) for name, rest in arrays.items()}
    number = whole(facts["count"], "count") if facts.get("count") is not None else None
    if told is None:
        return undescribed({**facts, **values}, size, number, options.background)
    size = size or (whole(facts.get("height"), "height"), whole(facts.get("width"), "width"))
    return told.record(values, size, number)


def _array(sample: _Sample, rest: str, sums: Mapping[str, Any]) -> Array:
    try:
        data = _read(sample.file, sample.members[rest])
        if rest in sums and sums[rest] != xxhash.xxh3_64_hexdigest(data):
            raise ValueError("its bytes are not those that were written: the checksum differs")
        return parse(data, "it")
    except ValueError as error:
        raise ValueError(f"{rest}: {error}") from None


def _read(file: BinaryIO, member: Member, longest: int | None = None) -> bytes:
    """The data of a member. Raises ValueError for more than ``longest`` bytes, and for a file that ends in it."""
    if longest is not None and member.size > longest:
        raise ValueError(f"it has {member.size:,} bytes, expected {longest:,} at most")
    file.seek(member.begin)
    data = file.read(member.size)
    if len(data) != member.size:
        raise ValueError(f"it ends at byte {member.begin + len(data)}")
    return data
