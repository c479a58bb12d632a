"""Lists of names that the index of a damaged group does not lead to any more: every byte of the file is looked at.

A symbol table node does not say whose it is: its names are places in the heap of its group, and places in another heap
would make wrong names of them. So these nodes are taken only where no other group can be theirs: every other group of
the file holds ``features`` and is a picture, and no place of a name belongs to two objects.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from featx.formats.hdf5.raw import Bytes, Damage, Fields

_GROUP = 1  # cache type of an entry that is a group; beside it are the addresses of its tree and its heap
_PLACES = re.compile(rb"SNOD\x01\0|HEAP\0\0\0\0")
_PICTURE = b"\0features\0"
_NO_NAME = (b"", b"\0", b"\1")  # at byte 8 of a heap, where the first name would be
_MOST_NAMES = 1 << 16  # bytes of the names of a picture


class Entry(NamedTuple):
    """An entry of a symbol table node (III.C): where its name is in the heap, its header, its kind, its own heap."""

    name: int
    address: int
    cache: int
    heap: int


class _Doubt(Exception):
    """There may be another group of pictures."""


def entries(node: Fields) -> Iterator[Entry]:
    """The entries of a node behind its count."""
    while node.left >= 40:
        name, address, cache, _, _, heap = struct.unpack("<QQIIQQ", node.take(40))
        yield Entry(name, address, cache, heap)


def symbol_node(file: Bytes, place: int) -> Fields:
    """The entries of a symbol table node. Raises Damage."""
    count = int.from_bytes(file.read(place, 8, "a list of names")[6:], "little")
    node = file.fields(place, 8 + 40 * count, "a list of names", b"SNOD")
    node.take(4)
    return node


def orphans(file: Bytes, heap: int, seen: set[int], known: list[Entry]) -> list[Entry]:
    """Entries of a group with the heap at ``heap``, besides those ``known``, in nodes that are not in ``seen``."""
    owners = {entry.name: entry.address for entry in known}
    found: list[Entry] = []
    try:
        if _PICTURE in _names_in(file, heap):  # what a picture holds are no pictures
            return []
        for entry in known:
            _is_picture(file, entry.heap)
        for place in file.find(_PLACES):
            if file.read(place, 4, "a signature") == b"HEAP":
                if place != heap:
                    _is_picture(file, place)
            elif place not in seen:
                found.extend(_fresh(file, place, owners))
    except _Doubt:
        return []
    return found


def _fresh(file: Bytes, place: int, owners: dict[int, int]) -> list[Entry]:
    """The entries of a node all of whose objects are pictures."""
    try:
        node = list(entries(symbol_node(file, place)))
        if not all(entry.cache == _GROUP and _is_picture(file, entry.heap) for entry in node):
            return []
    except Damage:
        return []
    for entry in node:
        if owners.setdefault(entry.name, entry.address) != entry.address:
            raise _Doubt
    return node


def _is_picture(file: Bytes, heap: int) -> bool:
    """Whether the heap of a group has the names of a picture; False when it cannot be read or is empty."""
    names = _names_in(file, heap)
    if _PICTURE not in names and names[8:9] not in _NO_NAME:
        raise _Doubt
    return _PICTURE in names


def _names_in(file: Bytes, heap: int) -> bytes:
    """The first names in a heap; nothing when it cannot be read."""
    try:
        fields = file.fields(heap, 32, "a heap of names", b"HEAP")
        fields.take(4)
        size, _, place = fields.address(), fields.address(), fields.address()
        return file.read(place, min(size, _MOST_NAMES), "names")
    except Damage:
        return b""
