"""Tags of a TIFF structure (TIFF 6.0), which is also how EXIF is laid out."""

from __future__ import annotations

import struct
from typing import Literal

Alpha = Literal["straight", "premultiplied"]
Tags = dict[int, tuple[int, ...]]

WIDTH, HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _EXTRA, _SAMPLE_FORMAT = 274, 277, 284, 338, 339
_PIECES = ((273, 279), (324, 325))  # offsets and byte counts, of strips and of tiles
_COMPRESSIONS = frozenset([1, 2, 3, 4, 5, 7, 8, 32773, 32946])
_DEEP_LAYOUTS = ((1, 1), (2, 3), (2, 4))  # (photometric, samples) that OpenCV decodes faithfully at 16 bits
_STRAIGHT = 2
_MOST_VALUES = 1 << 20  # one per row of the tallest picture OpenCV accepts
_WANTED = {WIDTH, HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR, _EXTRA, _SAMPLE_FORMAT}
_WANTED.update(*_PIECES)
_KINDS = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}


def read_tags(data: bytes) -> Tags:
    """The integer tags named here, of the first directory. Raises struct.error where the data end too early."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    tags: Tags = {}
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        if tag in _WANTED - tags.keys() and kind in _KINDS and 0 < count <= _MOST_VALUES:
            code, width = _KINDS[kind]
            at = entry + 8 if count * width <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
            tags[tag] = struct.unpack_from(f"{order}{count}{code}", data, at)
    return tags


def orientation(exif: bytes) -> int:
    """Orientation (1 to 8) of an EXIF block; 1 when it has none or cannot be read, as viewers do."""
    try:
        value = read_tags(exif).get(_ORIENTATION, (1,))[0]
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def alpha(tags: Tags) -> Alpha:
    """How colours relate to alpha once decoded: libtiff multiplies 8-bit ones, 16-bit ones stay as stored."""
    deep = max(tags.get(_BITS, (1,))) > 8
    return "straight" if deep and tags.get(_EXTRA, (0,))[0] == _STRAIGHT else "premultiplied"


def breaks_off(tags: Tags, size: int) -> bool:
    """Whether a strip or tile reaches behind the end of a file of ``size`` bytes."""
    return any(
        offset + length > size
        for offsets, lengths in _PIECES
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    )


def problem(tags: Tags) -> str:
    """Why OpenCV would fail on this TIFF or, worse, return other pixels than it holds; empty if it would not."""
    samples, photometric = tags.get(_SAMPLES, (1,))[0], tags.get(_PHOTOMETRIC, (1,))[0]
    bits = max(tags.get(_BITS, (1,)))
    if tags.get(_COMPRESSION, (1,))[0] not in _COMPRESSIONS:
        return f"TIFF with compression {tags[_COMPRESSION][0]}"
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1} or bits not in (1, 2, 4, 8, 16):
        return f"TIFF with {bits}-bit samples of format {tags.get(_SAMPLE_FORMAT, (1,))[0]}"
    if bits == 16 and ((photometric, samples) not in _DEEP_LAYOUTS or tags.get(_PLANAR, (1,))[0] != 1):
        return f"16-bit TIFF with {samples} samples, photometric {photometric}"
    if photometric < 2 and samples > 1:
        return "grey TIFF with alpha"
    return ""
