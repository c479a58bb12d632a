"""What a picture file says about itself before a pixel is decoded.

Reads just enough of JPEG, PNG, GIF, BMP, WebP and TIFF to know the size (so that a bomb is refused before
memory is asked for), the EXIF orientation, how transparency is stored, and whether the file is whole.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from featx.decode import jpeg, tiff
from featx.decode.tiff import Alpha
from featx.errors import PictureRefused


@dataclass(frozen=True)
class Header:
    """Facts of one file.

    width, height: pixels as stored, before orientation. orientation: EXIF value 1 to 8 that is still to be
    applied (1 where the decoder applies it: JPEG and TIFF). alpha: how colours relate to a fourth channel.
    grey_key: the grey value, at the decoded depth, that a PNG declares transparent. missing: bytes are known
    to be missing at the end. unsupported: why a well-formed file cannot be decoded faithfully. data: the
    bytes to decode, where they differ from the file (an animated PNG without its animation).
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    alpha: Alpha = "straight"
    grey_key: int | None = None
    missing: bool = False
    unsupported: str = ""
    data: bytes | None = None


def read_header(data: bytes) -> Header:
    """Header of a picture file. Raises PictureRefused: ``empty``, ``not-an-image``, ``unsupported``,
    ``truncated`` (not even the header is whole), ``corrupt``."""
    if not data:
        raise PictureRefused("empty", "the file has 0 bytes", "fetch it again")
    reader = next((reader for magic, reader, _ in _READERS if magic.match(data)), None)
    if reader is None:
        raise _unknown(data)
    try:
        header = reader(data)
    except (struct.error, IndexError):
        raise truncated("before the end of its header") from None
    if header.width < 1 or header.height < 1:
        raise corrupt(f"the header says {header.width} x {header.height} pixels")
    return header


def media_type(start: bytes) -> str | None:
    """The media type of a picture file by its first :data:`START` bytes, None of what is decoded by nobody here."""
    return next((kind for magic, _, kind in _READERS if magic.match(start)), None)


def truncated(where: str) -> PictureRefused:
    """The refusal of a file that breaks off."""
    return PictureRefused("truncated", f"the file breaks off {where}", "fetch it again")


def corrupt(what: str) -> PictureRefused:
    """The refusal of a file whose bytes make no sense."""
    return PictureRefused("corrupt", what, "fetch it again")


def _unknown(data: bytes) -> PictureRefused:
    for magic, name in _FOREIGN:
        if magic.match(data):
            return PictureRefused("unsupported", f"this is {name}, which featx does not read", "convert it to PNG")
    start = data[:12].hex(" ")
    return PictureRefused("not-an-image", f"no picture format starts with the bytes {start}", "take it off the list")


# --- JPEG -------------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Header:
    for marker, start, payload in jpeg.segments(data):
        if marker in jpeg.FRAMES:
            precision, height, width = struct.unpack_from(">BHH", payload)
            problem = ""
            if marker not in jpeg.DECODABLE or precision != 8:
                problem = f"JPEG of process {marker - 0xC0} with {precision} bits"
            # EOI cannot occur inside scan data: there a 0 follows every 0xFF.
            missing = data.find(bytes([0xFF, jpeg.EOI]), start) < 0
            return Header("JPEG", width, height, missing=missing, unsupported=problem)
        if marker in (jpeg.SOS, jpeg.EOI):
            raise corrupt("a JPEG without a frame header")
    raise truncated("before the JPEG frame header")


# --- PNG (W3C PNG specification) --------------------------------------------------------------------

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")


def _png(data: bytes) -> Header:
    orientation, key, kind, animated = 1, None, b"", False
    for kind, start, end in _png_chunks(data):
        if start == 8 and kind != b"IHDR":
            raise corrupt("a PNG that does not start with IHDR")
        if kind == b"eXIf":
            orientation = tiff.orientation(data[start + 8 : end - 4])
        elif kind == b"tRNS":
            key = _grey_key(data, start + 8)
        animated |= kind in _ANIMATION
    width, height = struct.unpack_from(">II", data, 16)
    still = data[:8] + b"".join(data[a:b] for k, a, b in _png_chunks(data) if k not in _ANIMATION) if animated else None
    return Header("PNG", width, height, orientation, grey_key=key, data=still, missing=kind != b"IEND")


def _grey_key(data: bytes, start: int) -> int | None:
    """The transparent grey of a PNG; OpenCV applies tRNS itself for every other kind of colour."""
    depth, colour = data[24:26]
    if colour != 0:
        return None
    key = int(struct.unpack_from(">H", data, start)[0])
    return key * 255 // (2**depth - 1) if depth < 8 else key


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each whole chunk up to IEND. Raises ``corrupt`` where a checksum that matters fails."""
    start, kind = 8, b""
    while kind != b"IEND" and start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        # Upper case: needed to decode. The other two decide how the picture looks.
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf"):
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != checksum:
                raise corrupt(f"the checksum of PNG chunk {kind.decode('latin-1')!r} at byte {start} fails")
        yield kind, start, end
        start = end


# --- GIF (GIF89a), BMP, WebP (RFC 9649) -------------------------------------------------------------


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", width, height, missing=not _gif_is_whole(data))


def _gif_is_whole(data: bytes) -> bool:
    """Whether the blocks reach the trailer. A block of unknown kind is left to the decoder to judge."""
    try:
        position = 13 + _gif_table(data[10])
        while data[position] in b"\x21\x2c":
            position += 2 if data[position] == 0x21 else 11 + _gif_table(data[position + 9])
            while data[position]:
                position += data[position] + 1
            position += 1
    except IndexError:
        return False
    return True


def _gif_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, depth, packed = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: rows stored from the top
    row = (width * depth + 31) // 32 * 4
    plain = packed in (0, 3)
    return Header("BMP", width, height, missing=plain and start + row * height > len(data))


def _webp(data: bytes) -> Header:
    size, kind = struct.unpack_from("<4xI4x4s", data)
    missing = size + 8 > len(data)
    if kind == b"VP8X":
        fields = struct.unpack_from("<BxxxHBHB", data, 20)
        width, height = 1 + fields[1] + (fields[2] << 16), 1 + fields[3] + (fields[4] << 16)
        return Header("WebP", width, height, _webp_orientation(data), missing=missing)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, missing=missing)
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WebP", width & 0x3FFF, height & 0x3FFF, missing=missing)


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return tiff.orientation(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return 1


# --- TIFF -------------------------------------------------------------------------------------------


def _tiff(data: bytes) -> Header:
    tags = tiff.read_tags(data)
    if not {tiff.WIDTH, tiff.HEIGHT} <= tags.keys():
        raise corrupt("a TIFF without a size")
    return Header(
        "TIFF",
        tags[tiff.WIDTH][0],
        tags[tiff.HEIGHT][0],
        alpha=tiff.alpha(tags),
        missing=tiff.breaks_off(tags, len(data)),
        unsupported=tiff.problem(tags),
    )


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header], str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg, "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png, "image/png"),
    (re.compile(rb"GIF8[79]a"), _gif, "image/gif"),
    (re.compile(rb"(?s)BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), _bmp, "image/bmp"),
    (re.compile(rb"(?s)RIFF.{4}WEBP"), _webp, "image/webp"),
    (re.compile(rb"II\*\0|MM\0\*"), _tiff, "image/tiff"),
)
MEDIA_TYPES = tuple(kind for _, _, kind in _READERS)
START = 18  # bytes that tell which of them a file is
_FOREIGN = (
    (re.compile(rb"(?s).{4}ftyp"), "AVIF, HEIC or a video"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL"),
    (re.compile(rb"II\+\0|MM\0\+"), "BigTIFF"),
    (re.compile(rb"\0\0[\1\2]\0"), "an icon"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"P[1-7]\s"), "a portable bitmap (PNM)"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"\s*<svg"), "SVG"),
    (re.compile(rb"\x76\x2f\x31\x01|#\?RADIANCE"), "a high dynamic range picture"),
)
