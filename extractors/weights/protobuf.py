"""The protobuf wire format, as much of it as a .caffemodel needs: fields of a message, without copying.

Encoding: the Protocol Buffers documentation, "Encoding". Every length is checked against the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class WireError(ValueError):
    """Bytes that are no protobuf message, or only the first part of one."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) in file order: an int for a varint, the raw bytes for everything else.

    Raises WireError at the first byte that cannot be read.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise WireError(f"wire type {kind} at byte {at}")
        if size > len(data) - at:
            raise WireError(f"cut short: {size} bytes announced at byte {at}, {len(data) - at} left")
        yield number, data[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned varint at ``at``, and where it ends."""
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise WireError(f"cut short or not a number at byte {at}")


def varints(data: memoryview) -> list[int]:
    """A packed list of unsigned varints."""
    values, at = [], 0
    while at < len(data):
        value, at = varint(data, at)
        values.append(value)
    return values
