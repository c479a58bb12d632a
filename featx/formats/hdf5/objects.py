"""Superblock and object headers of a damaged HDF5 file (Specification II.A, IV.A.1 and IV.A.2)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from featx.formats.hdf5.raw import ADDRESS, UNDEFINED, Bytes, Damage, Fields, Unhandled

DATASPACE, LINK_INFO, DATATYPE, LINK, STORED_ELSEWHERE = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, CONTINUATION, SYMBOL_TABLE = 0x08, 0x0B, 0x10, 0x11
_LONGEST = 4 << 20  # bytes of one object header
_BLOCKS = 256  # of one object header
_SHARED = 2  # flag of a message that is in another place
# Where the superblock has the address of the root's header, and where h5py puts that header, by the version.
_ROOT_AT = {0: (64, 96), 1: (68, 100), 2: (36, 48), 3: (36, 48)}
_CACHED_AT = {0: 80, 1: 84}  # of a copy of the root's symbol table message


class Header(NamedTuple):
    """An object header. lost: what cannot be read of it; '' when it is whole."""

    offset: int
    messages: list[tuple[int, int, bytes]]  # type, flags, data
    lost: str = ""

    def all(self, kind: int) -> Iterator[Fields]:
        """The messages of a type. Raises Unhandled for one that is shared with other objects."""
        for found, flags, data in self.messages:
            if found == kind:
                if flags & _SHARED:
                    raise Unhandled(f"the header at byte {self.offset} shares its message {kind:#x} with others")
                yield Fields(data, self.offset, f"message {kind:#x} of the object header")

    def one(self, kind: int) -> Fields | None:
        """The first message of a type, None when there is none."""
        return next(self.all(kind), None)

    def need(self, kind: int, what: str) -> Fields:
        """The same. Raises Damage when there is none."""
        found = self.one(kind)
        if found is None:
            raise Damage(
                self.offset, f"the header at byte {self.offset} has no {what}" + f": {self.lost}" * bool(self.lost)
            )
        return found


def root_header(file: Bytes) -> Header:
    """The header of the root group, by the superblock or where h5py puts it. Raises Damage."""
    head = file.read(0, min(file.length, 128), "the superblock").ljust(128, b"\0")
    version = head[8]
    stated = [place for at, usual in _places(version) for place in (int.from_bytes(head[at : at + 8], "little"), usual)]
    first: Damage | None = None
    for place in dict.fromkeys(stated):
        try:
            header = read_header(file, place, "the header of the root group")
            if any(kind in (SYMBOL_TABLE, LINK_INFO, LINK) for kind, _, _ in header.messages):
                return header
            raise Damage(place, f"the object at byte {place} is no root group")
        except Damage as damage:
            first = first or damage
    if version in _CACHED_AT:
        copy = head[_CACHED_AT[version] :][: 2 * ADDRESS]
        if 0 < min(struct.unpack("<QQ", copy)) < max(struct.unpack("<QQ", copy)) < file.length:
            return Header(_CACHED_AT[version], [(SYMBOL_TABLE, 0, copy)])
    raise first or Damage(8, f"its superblock has the version {version}")


def _places(version: int) -> list[tuple[int, int]]:
    return [_ROOT_AT[version]] if version in _ROOT_AT else [_ROOT_AT[0], _ROOT_AT[2]]


def read_header(file: Bytes, address: int, what: str) -> Header:
    """An object header of version 1 or 2. Raises Damage when its first block cannot be read."""
    if address in (0, UNDEFINED):
        raise Damage(0, f"{what} has no address")
    if file.read(address, 4, what) == b"OHDR":
        return _blocks(file, address, what, *_first_of_new(file, address, what))
    prefix = file.fields(address, 16, what)
    version, _, _, _, size = struct.unpack("<BBHII", prefix.take(12))
    if version != 1:
        raise Damage(address, f"byte {address} does not begin {what}")
    there = min(_bounded(size, address, what), file.length - address - 16)  # what is cut off may be empty
    return _blocks(file, address, what, file.fields(address + 16, there, what), None)


def _first_of_new(file: Bytes, address: int, what: str) -> tuple[Fields, int]:
    """The messages of the first block of a header of version 2, and its flags."""
    version, flags = file.read(address + 4, 2, what)
    if version != 2:
        raise Damage(address, f"{what} at byte {address} has the version {version}")
    prefix = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    size = int.from_bytes(file.read(address + prefix, width, what), "little")
    block = file.checked(address, prefix + width + _bounded(size, address, what) + 4, what, b"OHDR")
    return Fields(block.data[prefix + width : -4], address + prefix + width, what), flags


def _blocks(file: Bytes, address: int, what: str, first: Fields, flags: int | None) -> Header:
    """All blocks; those after the first that cannot be read are told in ``lost``. flags: None for version 1."""
    messages: list[tuple[int, int, bytes]] = []
    waiting, seen, total, lost = deque([first]), {address}, 0, ""
    while waiting:
        block = waiting.popleft()
        total += len(block.data)
        try:
            for message in _messages(block, flags):
                messages.append(message)
                if message[0] == CONTINUATION:
                    place, size = struct.unpack("<QQ", message[2][:16].ljust(16, b"\xff"))
                    if place not in seen and len(seen) < _BLOCKS and total < _LONGEST:
                        seen.add(place)
                        waiting.append(_continued(file, place, _bounded(size, place, what), what, flags))
        except Damage as damage:
            cut = f", behind the end of the file at byte {file.length}" * (
                block.offset + len(block.data) == file.length
            )
            lost = lost or f"{damage}{cut}"
    return Header(address, messages, lost)


def _continued(file: Bytes, place: int, size: int, what: str, flags: int | None) -> Fields:
    if flags is None:
        return file.fields(place, size, what)
    return Fields(file.checked(place, size, what, b"OCHK").data[4:-4], place + 4, what)


def _messages(block: Fields, flags: int | None) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and data of the messages of a block."""
    prefix = 8 if flags is None else 6 if flags & 4 else 4
    while block.left >= prefix:
        if flags is None:
            kind, size, mark = struct.unpack("<HHB3x", block.take(8))
        else:
            kind, size, mark = struct.unpack("<BHB", block.take(4))
            block.take(prefix - 4)
        yield kind, mark, block.take(size if kind else min(size, block.left))


def _bounded(size: int, address: int, what: str) -> int:
    if size > _LONGEST:
        raise Damage(address, f"{what} at byte {address} states a length of {size} bytes")
    return size
