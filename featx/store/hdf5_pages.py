"""HDF5's file format as far as a sealed part needs it, written by hand: the functions return bytes, and know no files.

Source: HDF5 File Format Specification, version 3.0; the docstrings name its sections. All lengths and offsets have 8
bytes. What lies anywhere in the file already can be made a chunk of a dataset, which HDF5's own library cannot do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from featx.schema import Array

UNDEFINED = 2**64 - 1
SUPERBLOCK_SIZE = 48
PAGE_BITS = 5  # 2**5 entries of a fixed array have a checksum together: many short pages are hashed side by side
_PAGE = 1 << PAGE_BITS
_UNFILTERED = 0  # client of a fixed array: chunks without filters
_FIXED_ARRAY = 3  # type of a chunk index
_WORD = 0xFFFFFFFF
_DATASPACE, _LINK_INFO, _DATATYPE, _FILL, _LINK, _LAYOUT, _GROUP_INFO, _ATTRIBUTE, _ATTRIBUTE_INFO = (
    1, 2, 3, 5, 6, 8, 10, 12, 21,
)  # fmt: skip
_CONSTANT = 1  # flag of a message
_UTF8 = 1
_HEAP_LEAST = 4096
_HEAP_OBJECT = struct.Struct("<HHIQ")  # index, references, zero, size
_ARRAY_HEADER = struct.Struct("<4sBBBBQQ")
_ARRAY_BLOCK = struct.Struct("<4sBBQ")
_FLOATS = {2: (15, 10, 5, 0, 10, 15), 4: (31, 23, 8, 0, 23, 127)}  # by size: sign; exponent, mantissa; bias


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash of 2006 with which HDF5 protects its structures ("hashlittle", initial value 0)."""
    if not data:
        return 0xDEADBEEF
    padded = data + bytes(-len(data) % 12)
    return int(_hashed(struct.unpack(f"<{len(padded) // 4}I", padded), len(data)))


def lookup3_rows(rows: Array) -> Array:
    """:func:`lookup3` of each row of ``rows`` uint8 [n, size], uint32 [n], all of them side by side."""
    count, size = rows.shape
    padded = np.zeros((count, size + -size % 12), np.uint8)
    padded[:, :size] = rows
    words = np.ascontiguousarray(padded.view("<u4").T.astype(np.uint64))
    return np.asarray(_hashed(words, size)).astype("<u4")


def _hashed(words: Any, size: int) -> Any:
    """The hash of ``words``, numbers or arrays of uint64, all below 2**32."""
    a = b = c = (0xDEADBEEF + size) & _WORD
    last = len(words) - 3
    for place in range(0, last, 3):
        a, b, c = (a + words[place]) & _WORD, (b + words[place + 1]) & _WORD, (c + words[place + 2]) & _WORD
        a, b, c = _mix(a, b, c)
    a, b, c = (a + words[last]) & _WORD, (b + words[last + 1]) & _WORD, (c + words[last + 2]) & _WORD
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, turn)) & _WORD
        a, b, c = b, c, a
    return b  # the last to be computed


def _mix(a: Any, b: Any, c: Any) -> Any:
    for turn in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _WORD) ^ _turned(c, turn)
        c = (c + b) & _WORD
        a, b, c = b, c, a
    return a, b, c


def _turned(word: Any, bits: int) -> Any:
    return (word << bits | word >> (32 - bits)) & _WORD


def superblock(end: int, root: int) -> bytes:
    """II.A Disk Format: Level 0A, Version 3: a file of ``end`` bytes, with the header of its root group at ``root``."""
    front = b"\x89HDF\r\n\x1a\n" + struct.pack("<BBBBQQQQ", 3, 8, 8, 0, 0, UNDEFINED, end, root)
    return _summed(front)


def object_header(messages: Sequence[bytes]) -> bytes:
    """IV.A.1.b Version 2 Data Object Header Prefix, with all messages in its chunk 0."""
    body = b"".join(messages)
    return _summed(b"OHDR" + struct.pack("<BBI", 2, 2, len(body)) + body)


def group(members: Sequence[tuple[str, int]], attributes: Sequence[bytes]) -> bytes:
    """The header of a group of (name, address of the header): IV.A.2.c Link Info, k Group Info, g Link."""
    info = _message(_LINK_INFO, struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED))
    return object_header([info, _message(_GROUP_INFO, bytes(2)), *(_link(*member) for member in members), *attributes])


def dataset(
    shape: Sequence[int], datatype: bytes, layout: bytes, attributes: Sequence[bytes] = (), *, early: bool = True
) -> bytes:
    """The header of a dataset: IV.A.2.b Dataspace, d Datatype, f Fill Value, i Data Layout. early: it has its space."""
    fill = struct.pack("<BB", 3, (1 if early else 2) | 1 << 2)  # allocation early or late; never filled
    return object_header(
        [
            _message(_DATASPACE, dataspace(shape)),
            _message(_DATATYPE, datatype, _CONSTANT),
            _message(_FILL, fill, _CONSTANT),
            _message(_LAYOUT, layout),
            *attributes,
        ]
    )


def dataspace(shape: Sequence[int] | None) -> bytes:
    """IV.A.2.b The Dataspace Message, version 2; None: a scalar."""
    kind, extents = (0, ()) if shape is None else (1, tuple(shape))
    return struct.pack(f"<BBBB{len(extents)}Q", 2, len(extents), 0, kind, *extents)


def number(dtype: np.dtype[Any]) -> bytes:
    """IV.A.2.d The Datatype Message: fixed-point or IEEE 754 floating-point, little-endian."""
    size = dtype.itemsize
    if dtype.kind == "f":
        sign, exponent, exponent_size, mantissa, mantissa_size, bias = _FLOATS[size]
        sizes = (exponent, exponent_size, mantissa, mantissa_size, bias)
        return struct.pack("<BBBBI HHBBBBI", 1 << 4 | 1, 2 << 4, sign, 0, size, 0, 8 * size, *sizes)
    return struct.pack("<BBBBI HH", 1 << 4, 8 * (dtype.kind == "i"), 0, 0, size, 0, 8 * size)


def text(size: int) -> bytes:
    """IV.A.2.d The Datatype Message: a string of ``size`` bytes of UTF-8, zeros behind it."""
    return struct.pack("<BBBBI", 1 << 4 | 3, _UTF8 << 4 | 1, 0, 0, size)


def free_text() -> bytes:
    """IV.A.2.d The Datatype Message: a string of any length, UTF-8, which lies in a global heap."""
    return struct.pack("<BBBBI", 1 << 4 | 9, 1, _UTF8, 0, 16) + number(np.dtype("u1"))


def contiguous(address: int, size: int) -> bytes:
    """IV.A.2.i The Data Layout Message, version 4: contiguous storage of ``size`` bytes."""
    return struct.pack("<BBQQ", 4, 1, address, size)


def chunked(chunk: Sequence[int], itemsize: int, index: int) -> bytes:
    """IV.A.2.i The Data Layout Message, version 4: chunks whose places a fixed array says, its header at ``index``."""
    extents = [*chunk, itemsize]
    width = max(1, max(extent.bit_length() for extent in extents) + 7 >> 3)
    sizes = b"".join(extent.to_bytes(width, "little") for extent in extents)
    return (
        struct.pack("<BBBBB", 4, 2, 0, len(extents), width)
        + sizes
        + struct.pack("<BBQ", _FIXED_ARRAY, PAGE_BITS, index)
    )


def attribute(name: str, datatype: bytes, value: bytes) -> bytes:
    """IV.A.2.m The Attribute Message, version 3: a scalar."""
    spelled = name.encode() + b"\0"
    space = dataspace(None)
    head = struct.pack("<BBHHHB", 3, 0, len(spelled), len(datatype), len(space), _UTF8)
    return _message(_ATTRIBUTE, head + spelled + datatype + space + value)


def attribute_info() -> bytes:
    """IV.A.2.v The Attribute Info Message: all attributes lie in the header."""
    return _message(_ATTRIBUTE_INFO, struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED))


def heap(texts: Sequence[bytes]) -> bytes:
    """III.E Disk Format: Level 1E - Global Heap: a collection of these objects, counted from 1."""
    pieces = [
        _HEAP_OBJECT.pack(place, 1, 0, len(each)) + each + bytes(-len(each) % 8) for place, each in enumerate(texts, 1)
    ]
    used = 16 + sum(map(len, pieces))
    free = max(_HEAP_LEAST - used, _HEAP_OBJECT.size)
    pieces.append(_HEAP_OBJECT.pack(0, 0, 0, free).ljust(free, b"\0"))
    return struct.pack("<4sB3xQ", b"GCOL", 1, used + free) + b"".join(pieces)


def heap_reference(address: int, place: int, size: int) -> bytes:
    """IV.B Disk Format: Level 2B - Data Object Data Storage: a string that is object ``place`` of the heap there."""
    return struct.pack("<IQI", size, address, place)


def fixed_arrays(addresses: Array, at: int) -> list[bytes]:
    """VII.C The Fixed Array Index: header and data block for each row of ``addresses`` uint64 [k, n].

    They are to lie one behind the other from ``at`` on, each as long as the others, and each begins with its header.
    """
    count = addresses.shape[1]
    paged = _paged(addresses) if count > _PAGE else [row.astype("<u8").tobytes() for row in addresses]
    made = []
    for entries in paged:
        head = _ARRAY_HEADER.pack(b"FAHD", 0, _UNFILTERED, 8, PAGE_BITS, count, at + 32)
        block = _ARRAY_BLOCK.pack(b"FADB", 0, _UNFILTERED, at)
        if count > _PAGE:
            block = _summed(block + _bits(-(-count // _PAGE))) + entries
        else:
            block = _summed(block + entries)
        made.append(_summed(head).ljust(32, b"\0") + block + bytes(-len(block) % 8))
        at += len(made[-1])
    return made


def _paged(addresses: Array) -> list[bytes]:
    """The pages of the data block of each row, each page with its checksum behind it."""
    count, whole = addresses.shape[1], addresses.shape[1] // _PAGE * _PAGE
    ends = []
    for part, width in ((addresses[:, :whole], _PAGE), (addresses[:, whole:], count - whole)):
        pages = np.ascontiguousarray(part, "<u8").reshape(-1, width or 1).view(np.uint8)
        summed = np.concatenate([pages, lookup3_rows(pages).reshape(-1, 1).view(np.uint8)], 1)
        ends.append(summed.reshape(len(addresses), -1))
    return [front.tobytes() + behind.tobytes() for front, behind in zip(*ends, strict=True)]


def _bits(count: int) -> bytes:
    """A bitmap of ``count`` ones, the first the highest of its byte."""
    return (((1 << count) - 1) << -count % 8).to_bytes(-(-count // 8), "big")


def _link(name: str, address: int) -> bytes:
    spelled = name.encode()
    head = struct.pack("<BBBH", 1, 1 << 4 | 1, _UTF8, len(spelled))
    return _message(_LINK, head + spelled + struct.pack("<Q", address))


def _message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("<BHB", kind, len(body), flags) + body


def _summed(data: bytes) -> bytes:
    """The bytes, and their checksum behind them."""
    return data + lookup3(data).to_bytes(4, "little")
