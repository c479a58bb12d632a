"""The body of an answer of many records: one frame for each key asked for, in the order asked, and one that ends it.

A frame is 16 bytes, little-endian, and what it holds, padded with zeros to a multiple of 16::

    0   u32  kind: 1 record, 2 missing, 3 refused, 4 damaged, 0xE0F end
    4   u32  zero
    8   u64  length of what it holds, without the padding
    16       a record as it is stored; of kinds 2 to 4 UTF-8 JSON {"key", "message", "hint"}; of the end the number
             of frames before it, u64

So every record lies at a multiple of 16 of the body, and the compiled reader takes it where it was received. The end
tells a whole answer from one that was cut. Nothing is allocated for a length that a frame claims.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from featx.errors import StoreDamaged

RECORD, MISSING, REFUSED, DAMAGED, END = 1, 2, 3, 4, 0xE0F
MEDIA_TYPE = "application/vnd.featx.records"
ALIGN = 16
HEAD = struct.Struct("<IIQ")
COUNT = struct.Struct("<Q")
END_SIZE = HEAD.size + ALIGN  # bytes of the whole last frame
LONGEST_TOLD = 1 << 16  # bytes of a frame that holds no record
_NO_RECORD = (MISSING, REFUSED, DAMAGED)


class Frame(NamedTuple):
    """What is sent for one key: a kind, and a record or the JSON of :func:`told`."""

    kind: int
    body: Any


class Place(NamedTuple):
    """What was received for one key: a kind, and where in the body its bytes are."""

    kind: int
    offset: int
    size: int


class Told(NamedTuple):
    """Why there is no record for a key."""

    key: str
    message: str
    hint: str


def told(kind: int, key: str, message: str, hint: str = "") -> Frame:
    """The frame for a key without a record. What is too long for a frame is cut."""
    for keep in (None, 4096, 256):
        body = json.dumps({"key": key[:keep], "message": message[:keep], "hint": hint[:keep]}).encode()
        if len(body) <= LONGEST_TOLD:
            break
    return Frame(kind, body)


def length_of(sizes: Iterable[int]) -> int:
    """Bytes of the body whose frames hold so many bytes each."""
    return sum(HEAD.size + size + -size % ALIGN for size in sizes) + END_SIZE


def framed(frames: Iterable[Frame]) -> Iterator[Any]:
    """The body in pieces, end included. What a frame holds is a piece of its own, and not copied."""
    count, padding = 0, 0
    for kind, body in frames:
        size = memoryview(body).nbytes
        yield bytes(padding) + HEAD.pack(kind, 0, size)
        if size:
            yield body
        count, padding = count + 1, -size % ALIGN
    yield bytes(padding) + HEAD.pack(END, 0, COUNT.size) + COUNT.pack(count) + bytes(ALIGN - COUNT.size)


def places(body: Any, count: int) -> list[Place]:
    """Where the bytes for each of ``count`` keys are. Raises StoreDamaged for a body that is not whole and true.

    The bytes of a record are not looked at: its checksum is for whoever reads it.
    """
    view = memoryview(body).cast("B") if len(body) else memoryview(b"")
    found, at, end = [], 0, len(view) - END_SIZE
    for number in range(count):
        if at > end - HEAD.size:
            raise _damaged(f"it ends in frame {number} of {count}")
        kind, zero, size = HEAD.unpack_from(view, at)
        start = at + HEAD.size
        if zero or not (kind == RECORD or (kind in _NO_RECORD and size <= LONGEST_TOLD)):
            raise _damaged(f"frame {number} has kind {kind:#x}, {zero:#x} and {size} bytes")
        if size > end - start:
            raise _damaged(f"frame {number} has {size} bytes, {max(0, end - start)} are left for it")
        found.append(Place(kind, start, size))
        padding = -size % ALIGN
        at = start + size + padding
        if padding and any(view[start + size : at]):
            raise _damaged(f"there is no padding behind frame {number}")
    _check_end(view, at, count)
    return found


def _check_end(view: memoryview, at: int, count: int) -> None:
    """Raise StoreDamaged unless the last frame begins at ``at`` and says that there were ``count``."""
    if len(view) - at != END_SIZE:
        raise _damaged(f"{len(view) - at} bytes follow the last of {count} frames, expected {END_SIZE}")
    kind, zero, size = HEAD.unpack_from(view, at)
    (said,) = COUNT.unpack_from(view, at + HEAD.size)
    if (kind, zero, size, said) != (END, 0, COUNT.size, count) or any(view[-(ALIGN - COUNT.size) :]):
        raise _damaged(f"its end has kind {kind:#x} and says {said} frames, {count} were asked for")


def read_told(body: Any, place: Place) -> Told:
    """Why there is no record, from a frame that says so. Raises StoreDamaged."""
    try:
        data = json.loads(bytes(memoryview(body).cast("B")[place.offset : place.offset + place.size]))
        key, message, hint = data["key"], data["message"], data.get("hint", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(f"a frame of kind {place.kind} does not hold what it should ({error})") from None
    if not (isinstance(key, str) and isinstance(message, str) and isinstance(hint, str)):
        raise _damaged(f"a frame of kind {place.kind} holds no text")
    return Told(key, message, hint)


def _damaged(what: str) -> StoreDamaged:
    return StoreDamaged(
        f"the answer of the server is damaged: {what}",
        "ask again; if it stays, something between here and the server changes or cuts what it sends",
    )
