"""The structure of JPEG files (ITU-T T.81, annex B), and of those that lack only their end marker.

Many JPEGs on the web end a byte or two early. All their pixels are there: the picture does not depend
on what would have followed. That is what is tested: the file is padded with three different fillings, and
only if all of them decode, to the same pixels, was nothing but the end missing.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[Any]]

_NO_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RSTn, SOI
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
DECODABLE = frozenset([0xC0, 0xC1, 0xC2, 0xC9, 0xCA])  # libjpeg-turbo: not lossless, not hierarchical
SOS, EOI = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_FRAMES_IN_MANY_SCANS = (0xC2, 0xCA)
# Longer than the decoder reads ahead, and no longer: where more bytes than these are missing it runs dry.
_FILLINGS = tuple(bytes([value]) * 16 for value in (0x00, 0x55, 0xAA))
_END = bytes([0xFF, EOI])


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, position of its first byte, payload) of each whole segment; scan data is passed over.

    Ends at EOI or where the file breaks off; garbage between segments is passed over, as libjpeg does.
    """
    position = 2
    while found := _MARKER.search(data, position):
        marker, start, position = found[1][0], found.start(), found.end()
        if marker in _NO_LENGTH:
            continue
        if marker == EOI:
            yield marker, start, b""
            return
        if position + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, position)
        if position + length > len(data):
            return
        yield marker, start, data[position + 2 : position + length]
        position += max(length, 2)


def without_end(data: bytes, decode: Callable[[bytes], Pixels | None]) -> Pixels | None:
    """Pixels of a JPEG whose end marker is missing, None if pixels are missing too.

    ``decode`` returns None for a file that breaks off. A JPEG of a single scan is padded without an end
    marker, so that a decoder that runs out of data says so; one of several scans needs the marker, and must
    have begun to send every coefficient at full precision (libjpeg then prints a line about the padding).
    """
    scans = _scans(data)
    if scans is None:
        return None
    end = _END if scans > 1 else b""
    first, *others = (decode(data.rstrip(b"\xff") + filling + end) for filling in _FILLINGS)
    if first is None or any(other is None or not np.array_equal(first, other) for other in others):
        return None
    return first


def _scans(data: bytes) -> int | None:
    """How many scans the file holds (at least 2 if it is progressive), None if what they hold is not complete."""
    components: set[int] = set()
    exact: dict[int, set[int]] = defaultdict(set)  # coefficients sent to the last bit, by component
    scans = 0
    for marker, _, payload in segments(data):
        if marker in FRAMES and len(payload) > 5:
            components = set(payload[6::3][: payload[5]])
            scans += marker in _FRAMES_IN_MANY_SCANS
        elif marker == SOS and payload:
            count = payload[0]
            if len(payload) != 4 + 2 * count:
                return None
            first, last, precision = payload[1 + 2 * count :]
            if precision & 0x0F == 0:
                for component in payload[1 : 1 + 2 * count : 2]:
                    exact[component] |= set(range(first, min(last, 63) + 1))
            scans += 1
    if any(len(exact[component]) < 64 for component in components):
        return None
    return scans
