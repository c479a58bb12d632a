"""Ordinary, bounds-checked reads of a damaged HDF5 file: where a read would leave it, the error names the bytes.

"Specification" in this module and in ``hdf5_objects``, ``hdf5_links``, ``hdf5_arrays`` is the HDF5 File Format
Specification, version 3.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

UNDEFINED = 2**64 - 1  # an address that leads nowhere
ADDRESS = 8  # bytes of an address and of a length, in all files that h5py writes
_MASK = 0xFFFFFFFF
_BLOCK = 1 << 22  # bytes that are searched at once


class Damage(ValueError):
    """What cannot be followed, and why. offset: the byte of the file where it is or should be."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.offset = offset


class Unhandled(ValueError):
    """Something sound that only the HDF5 library reads."""


class Bytes:
    """The bytes of an open file. length: how many it has."""

    def __init__(self, handle: int) -> None:
        self._handle, self.length = handle, os.fstat(handle).st_size

    def read(self, offset: int, size: int, what: str) -> bytes:
        """``size`` bytes from ``offset`` on; ``what`` they are. Raises Damage when the file does not have them all."""
        if offset + size > self.length or offset < 0 or size < 0:
            place = f"bytes {offset} to {offset + size}"
            raise Damage(offset, f"{what} would lie at {place}, behind the end of the file at byte {self.length}")
        found = os.pread(self._handle, size, offset)
        while len(found) < size and (more := os.pread(self._handle, size - len(found), offset + len(found))):
            found += more  # the system reads 2 GiB at once at most
        if len(found) < size:
            raise Damage(offset, f"{what} cannot be read at byte {offset + len(found)}")
        return found

    def find(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        """Where a pattern of at most 64 bytes is in the file, in ascending order."""
        for start in range(0, self.length, _BLOCK):
            block = os.pread(self._handle, _BLOCK + 63, start)
            yield from (start + match.start() for match in pattern.finditer(block) if match.start() < _BLOCK)

    def fields(self, offset: int, size: int, what: str, signature: bytes = b"") -> Fields:
        """The same as fields to take one by one, behind a signature that must be there."""
        fields = Fields(self.read(offset, size, what), offset, what)
        if (found := fields.take(len(signature))) != signature:
            raise Damage(offset, f"{what}: byte {offset} has {found!r}, expected {signature!r}")
        return fields

    def checked(self, offset: int, size: int, what: str, signature: bytes) -> Fields:
        """The same for a block whose last four bytes are its checksum."""
        fields = self.fields(offset, size, what, signature)
        if lookup3(fields.data[:-4]) != int.from_bytes(fields.data[-4:], "little"):
            raise Damage(offset, f"{what} at bytes {offset} to {offset + size} does not have its checksum")
        return fields


class Fields:
    """Little-endian fields of a block, one behind another. offset: of the block in the file."""

    def __init__(self, data: bytes, offset: int, what: str) -> None:
        self.data, self.offset, self.what, self.at = data, offset, what, 0

    @property
    def left(self) -> int:
        """Number of bytes that were not taken."""
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises Damage behind the end of the block."""
        if size > self.left:
            raise Damage(self.offset + self.at, f"{self.what} at byte {self.offset} is shorter than it says")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """The next ``size`` bytes as a number without a sign."""
        return int.from_bytes(self.take(size), "little")

    def address(self) -> int:
        """The next address, or length."""
        return self.number(ADDRESS)


def enough_for(number: int) -> int:
    """Bytes that HDF5 gives to numbers up to ``number``."""
    return (max(number, 1).bit_length() - 1) // 8 + 1


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash of 2006, ``hashlittle`` with the start value 0: the checksum of HDF5's newer structures."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    whole = (len(data) - 1) // 12 * 12
    for at in range(0, whole, 12):
        a, b, c = _mix(*_add(a, b, c, data[at : at + 12]))
    return _final(*_add(a, b, c, data[whole:].ljust(12, b"\0")))


def _add(a: int, b: int, c: int, twelve: bytes) -> tuple[int, int, int]:
    x, y, z = (int.from_bytes(twelve[at : at + 4], "little") for at in (0, 4, 8))
    return (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK


def _turn(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _turn(c, bits)
        a, b, c = b, (c + b) & _MASK, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, bits)) & _MASK
        a, b, c = b, c, a
    return b
