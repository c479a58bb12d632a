"""The front of a safetensors file, read by its documented layout: a length, and JSON that says where each tensor is.

Bytes 0 to 8 are N, u64 little-endian, at most 100,000,000; N bytes of JSON begin with ``{`` and may end in spaces;
then comes data. ``{"NAME": {"dtype": "F32", "shape": [36, 4], "data_offsets": [begin, end]}, ...}``, offsets counted
from the end of the JSON; ``__metadata__`` maps text to text. Nothing that a header says is believed before it is held
against the length of the file, so no lie of it can cost memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from sys import intern
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from featx.rounding import from_bfloat16
from featx.schema import Array

LONGEST = 100_000_000  # bytes of JSON, a limit of the format
FRONT = 8
METADATA = "__metadata__"
# How each dtype is read: as numpy has it, and what it becomes in memory.
_DTYPES = {
    "F16": ("<f2", "<f2"), "F32": ("<f4", "<f4"), "F64": ("<f8", "<f4"), "BF16": ("<u2", "<f4"),
    "I64": ("<i8", "<i8"), "I32": ("<i4", "<i4"), "I16": ("<i2", "<i4"), "I8": ("i1", "<i4"),
    "U8": ("u1", "u1"), "BOOL": ("u1", "u1"), "U16": ("<u2", "<i4"),
}  # fmt: skip
_KEYS = {"dtype", "shape", "data_offsets"}
_ENTRY = re.compile(
    rb'"((?:[^"\\]|\\.){1,4096}+)"\s*:\s*\{\s*"dtype"\s*:\s*"(\w+)"\s*,\s*"shape"\s*:\s*\[([\d,\s]*)\]\s*,'
    rb'\s*"data_offsets"\s*:\s*\[\s*(\d{1,18})\s*,\s*(\d{1,18})\s*\]\s*\}'
)


class Tensor(NamedTuple):
    """A tensor as a header has it; ``begin`` and ``end`` are bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Front(NamedTuple):
    """What a header holds. tensors: by name. problems: (byte, what is wrong) of the places that cannot be read."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    problems: list[tuple[int, str]]


def json_of(file: BinaryIO, size: int) -> bytes:
    """The bytes of the JSON of a file of ``size`` bytes. Raises ValueError for what cannot be such a file."""
    file.seek(0)
    front = file.read(FRONT)
    length = int.from_bytes(front, "little")
    if len(front) < FRONT or not 2 <= length <= min(LONGEST, size - FRONT):
        raise ValueError(f"its header would have {length:,} bytes, the file has {size:,}")
    found = file.read(length)
    if len(found) < length or found[:1] != b"{":
        raise ValueError(f"its header begins with {found[:1]!r}, expected b'{{'")
    return found


def read_front(file: BinaryIO, size: int) -> Front:
    """The header of a file of ``size`` bytes; of a damaged one every entry that is whole. Raises ValueError."""
    text = json_of(file, size)
    start = FRONT + len(text)
    try:
        tensors = json.loads(text, object_pairs_hook=partial(_made, start, {}))
        metadata = tensors.pop(METADATA, None) or {}
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise ValueError("an entry is no tensor")
        return Front(tensors, {str(name): str(value) for name, value in metadata.items()}, [])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return _salvaged(text, start)


def load(file: BinaryIO, name: str, tensor: Tensor, size: int) -> Array:
    """The array of a tensor; bfloat16 is widened. Raises ValueError, with bytes, for what the file does not hold."""
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"tensor {name!r} has dtype {tensor.dtype!r:.40}, expected one of {', '.join(_DTYPES)}")
    stored, memory = map(np.dtype, _DTYPES[tensor.dtype])
    length = tensor.end - tensor.begin
    if prod(tensor.shape) * stored.itemsize != length:
        raise ValueError(f"tensor {name!r} of {tensor.dtype} {list(tensor.shape)} has {length:,} bytes")
    if tensor.end > size:
        raise ValueError(f"tensor {name!r} is bytes {tensor.begin} to {tensor.end}, the file is cut at {size}")
    file.seek(tensor.begin)
    data = file.read(length)
    if len(data) != length:
        raise ValueError(f"tensor {name!r} cannot be read: the file ends at byte {tensor.begin + len(data)}")
    array: Array = np.frombuffer(data, stored).reshape(tensor.shape)
    return from_bfloat16(array) if tensor.dtype == "BF16" else array.astype(memory, copy=False)


def _made(start: int, shapes: dict[Any, Any], pairs: list[tuple[str, Any]]) -> Any:
    """An object of the JSON; a tensor at once, as there may be a million. ``shapes``: those that were met before."""
    found = dict(pairs)
    return _tensor(found, start, shapes) if found.keys() == _KEYS else found


def _tensor(entry: Mapping[str, Any], start: int, shapes: dict[Any, Any]) -> Tensor:
    """An entry, checked to be of whole numbers that make sense. Raises ValueError, TypeError or LookupError."""
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not (all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and begin <= end and len(shape) <= 8):
        raise ValueError("an entry has no sensible shape or place")
    return Tensor(intern(str(entry["dtype"])), shapes.setdefault(shape, shape), start + begin, start + end)


def _salvaged(text: bytes, start: int) -> Front:
    """The entries of JSON that is damaged, found one by one, and the places between them that are none."""
    tensors: dict[str, Tensor] = {}
    metadata, first = _metadata(text)
    problems: list[tuple[int, str]] = []
    for place, entry in _entries(text, first):
        if entry is None:
            problems.append((FRONT + place, "the header is damaged here: which tensor this was is not known"))
            continue
        name, dtype, shape, begin, end = entry.groups()
        try:
            sides = [int(side) for side in shape.split(b",")] if shape.strip() else []
            told = {"dtype": dtype.decode(), "shape": sides, "data_offsets": [int(begin), int(end)]}
            tensors[str(json.loads(b'"' + name + b'"'))] = _tensor(told, start, {})
        except ValueError:
            problems.append((FRONT + place, "this entry of the header has no sensible name, shape or place"))
    return Front(tensors, metadata, problems)


def _metadata(text: bytes) -> tuple[dict[str, str], int]:
    """The metadata of damaged JSON, and where they end: nothing and 1 where they are not whole."""
    place = re.match(rb'\{\s*"__metadata__"\s*:\s*', text)
    try:
        rest = text[place.end() :].decode(errors="surrogateescape") if place else ""
        found, length = json.JSONDecoder().raw_decode(rest)
        told = {str(name): str(value) for name, value in found.items()}
        return told, (place.end() if place else 0) + len(rest[:length].encode(errors="surrogateescape"))
    except (ValueError, AttributeError, RecursionError):
        return {}, 1


def _entries(text: bytes, last: int) -> Iterator[tuple[int, re.Match[bytes] | None]]:
    """Entries behind byte ``last`` with their places; None for what is between two of them and is more than a comma."""
    for entry in _ENTRY.finditer(text, last):
        if text[last : entry.start()].strip(b" ,\n\r\t"):
            yield last, None
        yield entry.start(), entry
        last = entry.end()
    if text[last:].strip(b" ,}\n\r\t"):
        yield last, None
