"""The members of a tar, found header by header (POSIX ustar, GNU and pax long names), whatever is between them.

Headers and data begin at multiples of 512 bytes, and a header has a checksum of its own, so behind what is damaged
the next header is found. Zeros between members are passed over: tars that were put one behind the other are one.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
END = 2 * BLOCK  # zeros
_LONGEST_NAME = 1 << 20  # bytes
_NAMES = {tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE}  # headers whose data name the member behind them
_BESIDES = {tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE}  # headers that say nothing of it
_PASSED = {*_BESIDES, tarfile.DIRTYPE}
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_PAX = re.compile(rb"(\d{1,10}) ([^=\n]*)=")


class _Told(NamedTuple):
    """What headers in front of a member say of it."""

    name: str | None = None
    size: int | None = None


class Member(NamedTuple):
    """A file in a tar: its header begins at byte ``place``, its data are bytes ``begin`` to ``begin + size``."""

    name: str
    place: int
    begin: int
    size: int
    problem: str = ""


def header(name: str, size: int) -> bytes:
    """The header of a file, as GNU tar writes it: the same whenever, and by whomever, it is written."""
    made = tarfile.TarInfo(name)
    made.size, made.mode = size, 0o644
    return made.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def tar_members(file: BinaryIO, size: int) -> Iterator[Member]:
    """The members of a tar of ``size`` bytes; where one is damaged or cut, what is wrong and with which bytes."""
    place, told = 0, _Told()
    while place < size:
        file.seek(place)
        block, begin = file.read(BLOCK), place + BLOCK
        info = _header(block)
        if info is None:
            behind = begin
            if block.strip(b"\0"):
                behind = _next(file, begin, size)
                yield Member("", place, begin, 0, f"bytes {place} to {behind} are no member of a tar")
            place, told = behind, _Told()
            continue
        length = info.size if told.size is None else told.size
        name = info.name if told.name is None else told.name
        if not 0 <= length <= size - begin:
            yield Member(
                "", place, begin, 0, f"{name!r:.200} would end at byte {begin + length}, the file is cut at {size}"
            )
            place, told = _next(file, begin, size), _Told()
            continue
        if info.type in _FILES:
            yield Member(name, place, begin, length)
        elif info.type not in {*_NAMES, *_PASSED}:
            yield Member("", place, begin, 0, f"{name!r:.200} is of the type {info.type!r}, no plain file")
        if info.type in _NAMES:
            told = _told(file.read(min(length, _LONGEST_NAME)), info.type, told)
        elif info.type not in _BESIDES:
            told = _Told()
        place = begin + length + -length % BLOCK


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None


def _next(file: BinaryIO, place: int, size: int) -> int:
    """The place of the next header from a multiple of 512 on; the end of the file when there is none."""
    place += -place % BLOCK
    file.seek(min(place, size))
    while place < size:
        block = file.read(BLOCK)
        if block[257:262] == b"ustar" and _header(block) is not None:
            return place
        place += BLOCK
    return size


def _told(data: bytes, kind: bytes, told: _Told) -> _Told:
    """``told`` and what the data of a header say of the member behind it."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return told._replace(name=data.rstrip(b"\0").decode(errors="surrogateescape"))
    place = 0
    while entry := _PAX.match(data, place):
        value = data[entry.end() : place + int(entry[1]) - 1]
        if entry[2] == b"path":
            told = told._replace(name=value.decode(errors="surrogateescape"))
        elif entry[2] == b"size" and value.isdigit() and len(value) < 19:
            told = told._replace(size=int(value))
        place += max(int(entry[1]), 1)
    return told
