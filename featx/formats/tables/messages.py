"""The messages of an Arrow IPC stream or file, found by their framing (Arrow Columnar Format, "IPC"), not believed.

A message is ``FFFFFFFF``, its length (int32), so many bytes of flatbuffer ``Message`` and then ``bodyLength`` bytes of
body; all begin at multiples of 8 and a length of 0 is the end. A file (``ARROW1``) has the same from byte 8 on, and
an index behind it, which is not needed. What a message says of its lengths is held against the file before pyarrow
sees it; behind one that is damaged the next is looked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

MARK = b"\xff\xff\xff\xff"
FILE_MAGIC = b"ARROW1\0\0"
SCHEMA, DICTIONARY, BATCH = 1, 2, 3  # kinds of messages
_LONGEST = 256 << 20  # bytes of a flatbuffer


class Message(NamedTuple):
    """A message: its bytes are ``begin`` to ``end`` of the file. rows: of a batch, as it says itself.

    problem: what is wrong with these bytes; the kind is 0 then.
    """

    kind: int
    begin: int
    end: int
    rows: int = 0
    problem: str = ""


def messages(data: Any) -> Iterator[Message]:
    """The messages in the bytes of a stream or file; and what is between two of them and is none."""
    place = len(FILE_MAGIC) if data[: len(FILE_MAGIC)] == FILE_MAGIC else 0
    size = len(data)
    while place < size:
        try:
            found = _message(data, place)
        except (ValueError, struct.error) as error:
            behind = _next(data, place + 8)
            yield Message(0, place, behind, problem=f"bytes {place} to {behind} are no message of Arrow: {error}")
            place = behind
            continue
        if found is None:
            return
        yield found
        place = found.end


def _message(data: Any, place: int) -> Message | None:
    """The message at a place; None for the end of the stream. Raises ValueError or struct.error for anything else."""
    if data[place : place + 4] != MARK:
        raise ValueError(f"they begin with {data[place : place + 4]!r}")
    (length,) = struct.unpack_from("<i", data, place + 4)
    if length == 0:
        return None
    front, size = place + 8, len(data)
    if not 8 <= length <= min(_LONGEST, size - front):
        raise ValueError(f"its front would have {length:,} bytes, the file has {size - front:,} more")
    table = _Table.root(data[front : front + length])
    kind, header = table.number("<B", 1), table.inner(2)
    body = table.number("<q", 3)
    end = front + length + body
    if body < 0 or body % 8 or end > size:
        raise ValueError(f"its body would end at byte {end}, the file at {size}")
    rows = header.number("<q", 0) if kind == BATCH else 0
    if rows < 0 or rows > max(body, 1) * 8:
        raise ValueError(f"a batch of {rows:,} rows has {body:,} bytes")
    return Message(kind, place, end, rows)


def _next(data: Any, place: int) -> int:
    """Where the next message begins, or the end of the stream; the length of the data when there is none."""
    while (place := data.find(MARK, place)) >= 0:
        if place % 8 == 0:
            try:
                found = _message(data, place)
            except (ValueError, struct.error):
                found = Message(0, place, place)
            if found is None or found.kind == BATCH:
                return place
        place += 1
    return len(data)


class _Table:
    """A table of a flatbuffer, which finds its fields through a list of offsets in front of it."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = self._at(place, "<i", base=place, sign=-1)
        self._count = self._read("<H", self._fields) // 2 - 2

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def number(self, code: str, field: int) -> int:
        """The number in a field, 0 where it was left out."""
        place = self._field(field)
        return self._read(code, place) if place else 0

    def inner(self, field: int) -> _Table:
        """The table that a field points to."""
        place = self._field(field)
        if not place:
            raise ValueError("it has no header")
        return _Table(self._data, self._at(place, "<I", base=place, sign=1))

    def _field(self, field: int) -> int:
        offset = self._read("<H", self._fields + 4 + 2 * field) if field < self._count else 0
        return self._place + offset if offset else 0

    def _at(self, place: int, code: str, base: int, sign: int) -> int:
        return base + sign * self._read(code, place)

    def _read(self, code: str, place: int) -> int:
        if place < 0:
            raise ValueError("an offset leads out of it")
        return int(struct.unpack_from(code, self._data, place)[0])
