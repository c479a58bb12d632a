"""The fractal heap that holds the links of a large group of a damaged HDF5 file, and the B-tree of version 2 over it.

Specification III.G (fractal heap), III.A.2 (B-tree, its records of type 5: links by the hashes of their names). Every
structure here has a checksum.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

from featx.formats.hdf5.raw import ADDRESS, UNDEFINED, Bytes, Damage, Fields, Unhandled, enough_for, lookup3

_BY_NAME = 5  # type of a tree
_LARGEST_NODE = 1 << 20
_LARGEST_BLOCK = 1 << 26
_DEEPEST = 16


class LinkHeap:
    """The blocks of a fractal heap. objects: how many objects it states. Raises Damage, Unhandled."""

    def __init__(self, file: Bytes, place: int) -> None:
        self._file, self._place = file, place
        head = file.checked(place, 146, "a heap of links", b"FRHP")
        head.take(1)
        self.id_size, filters, flags, largest = struct.unpack("<HHBI", head.take(9))
        if filters:
            raise Unhandled("the links of a group are compressed")
        self._sealed = bool(flags & 2)
        head.take(7 * ADDRESS)
        self.objects = head.address()
        head.take(4 * ADDRESS)
        self._width, self._first, self._largest, bits, _, root, rows = struct.unpack("<HQQHHQH", head.take(32))
        if not 0 < self._first <= self._largest <= _LARGEST_BLOCK or not 0 < self._width <= 1024 or bits > 64:
            raise Damage(place, f"a heap of links at byte {place} makes no sense")
        self._offset_size = (bits + 7) // 8
        self._length_size = min((self._largest.bit_length() + 6) // 8, enough_for(largest))
        self._faults: list[Damage] = []
        self._table = sorted(self._tabled(root, rows) if rows else [(0, root, self._first)])
        if self._faults:
            self._table = sorted({*self._table, *self._found()})
        self._block = lru_cache(64)(self._read_block)

    def object(self, id_: bytes) -> Fields:
        """An object by its ID. Raises Damage when it is lost, Unhandled for one that does not lie in a block."""
        if id_[0] & 0xF0:
            raise Unhandled("a name is too long for the blocks of its heap")
        at = int.from_bytes(id_[1 : 1 + self._offset_size], "little")
        size = int.from_bytes(id_[1 + self._offset_size :][: self._length_size], "little")
        start, place, length = (
            self._table[max(bisect_right(self._table, (at, UNDEFINED, 0)) - 1, 0)] if self._table else (0, 0, 0)
        )
        if not start <= at <= at + size <= start + length:
            why = f": {self._faults[0]}" if self._faults else ""
            raise Damage(self._place, f"a name at place {at} of the heap at byte {self._place} is lost{why}")
        block = self._block(place, length)
        if at - start + size > len(block):
            raise Damage(
                place + at - start,
                f"a link would lie at byte {place + at - start}, the file ends at byte {self._file.length}",
            )
        return Fields(block[at - start : at - start + size], place + at - start, "a link")

    def blocks(self) -> Iterator[Fields | Damage]:
        """What is in every block, in the order of the heap, or why it cannot be read."""
        yield from self._faults
        for _, place, length in self._table:
            try:
                prefix = 5 + ADDRESS + self._offset_size + 4 * self._sealed
                yield Fields(self._block(place, length)[prefix:], place + prefix, "a block of links")
                if place + length > self._file.length:
                    self._file.read(place, length, "a block of links")
            except Damage as damage:
                yield damage

    def _read_block(self, place: int, length: int) -> bytes:
        """A block; of one that was cut, what is there."""
        data = self._file.fields(
            place, min(length, max(self._file.length - place, 4)), "a block of links", b"FHDB"
        ).data
        if self._sealed and len(data) == length:
            at = 5 + ADDRESS + self._offset_size
            if lookup3(data[:at] + bytes(4) + data[at + 4 :]) != int.from_bytes(data[at : at + 4], "little"):
                raise Damage(place, f"a block of links at byte {place} does not have its checksum")
        return data

    def _tabled(self, root: int, rows: int) -> Iterator[tuple[int, int, int]]:
        """Heap offset, address and length of the blocks below an indirect block."""
        waiting, seen = [(root, rows, 0)], {root}
        while waiting:
            place, rows, start = waiting.pop()
            size = 5 + ADDRESS + self._offset_size + min(rows, 64) * self._width * ADDRESS + 4
            try:
                table = self._file.checked(place, size, "a table of blocks of links", b"FHIB")
                table.take(1 + ADDRESS + self._offset_size)
            except Damage as damage:
                self._faults.append(damage)
                continue
            for row in range(min(rows, 64)):
                length = self._first << max(row - 1, 0)
                for _ in range(self._width):
                    below = table.address()
                    if below not in seen and below != UNDEFINED:
                        seen.add(below)
                        if length <= self._largest:
                            yield start, below, length
                        else:
                            waiting.append((below, (length // (self._first * self._width)).bit_length(), start))
                    start += length

    def _found(self) -> Iterator[tuple[int, int, int]]:
        """The same by a look at every byte of the file: every block names its heap."""
        for place in self._file.find(re.compile(re.escape(b"FHDB\0" + self._place.to_bytes(ADDRESS, "little")), re.S)):
            at = int.from_bytes(self._file.read(place, 64, "")[5 + ADDRESS :][: self._offset_size], "little")
            start, length = 0, self._first
            for row in range(64):
                length = self._first << max(row - 1, 0)
                if at < start + self._width * length:
                    break
                start += self._width * length
            if (at - start) % length == 0 and length <= self._largest:
                yield at, place, length


def heap_ids(file: Bytes, place: int, id_size: int) -> Iterator[bytes | Damage]:
    """The heap IDs of the links in a B-tree of version 2, and why some cannot be read."""
    try:
        head = file.checked(place, 38, "the index of a group", b"BTHD")
        version, kind, node_size, size, depth, _, _, root, count = struct.unpack("<BBIHHBBQH", head.take(22))
        if (
            (version, kind, size) != (0, _BY_NAME, 4 + id_size)
            or not 64 <= node_size <= _LARGEST_NODE
            or depth > _DEEPEST
        ):
            raise Damage(place, f"the index of a group at byte {place} makes no sense")
    except Damage as damage:
        yield damage
        return
    waiting, seen = ([(root, count, depth)] if count else []), {root}
    while waiting:
        at, count, level = waiting.pop()
        try:
            records, below = _node(file, at, count, level, node_size, size)
        except Damage as damage:
            yield damage
            continue
        yield from (record[4:] for record in records)
        for child, own in below:
            if child not in seen:
                seen.add(child)
                waiting.append((child, own, level - 1))


def _node(
    file: Bytes, place: int, count: int, level: int, node_size: int, size: int
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The records of a node, and (address, number of records) of what is below it."""
    count_size, total_size = _sizes(node_size, size, level)
    pointer = ADDRESS + count_size + total_size if level else 0
    length = 6 + count * size + (count + 1) * pointer + 4
    if length > node_size:
        raise Damage(place, f"a node of an index at byte {place} has {count} entries, too many for {node_size} bytes")
    node = file.checked(place, length, "a node of an index", b"BTIN" if level else b"BTLF")
    node.take(2)
    records = [node.take(size) for _ in range(count)]
    below = []
    for _ in range(count + 1 if level else 0):
        below.append((node.address(), node.number(count_size)))
        node.take(total_size)
    return records, below


def _sizes(node_size: int, size: int, level: int) -> tuple[int, int]:
    """Bytes of the two numbers beside an address in a node of ``level``: of records below it, and of all below it."""
    leaf = (node_size - 10) // size
    count_size, total, total_size = enough_for(leaf), leaf, 0
    for _ in range(level - 1):
        pointer = ADDRESS + count_size + total_size
        own = (node_size - 10 - pointer) // (size + pointer)
        total = (own + 1) * total + own
        total_size = enough_for(total)
    return count_size, total_size
