"""One decoding policy: the bytes of a picture file become upright uint8 RGB, or a refusal with a reason.

==============  =============================================================================================
orientation     applied, from EXIF (JPEG, PNG, WebP) or the TIFF tag
JPEG            exactly the pixels of ``cv2.imdecode(IMREAD_COLOR)``, on which published features were made
CMYK, YCCK      as OpenCV converts it: ``c k / 255`` of the inverted inks Adobe writes; no colour profile
grey, 1 bit     three equal channels
palette         its colours
alpha           over white, at the depth of the file; also grey with alpha and transparent palette entries
16 bits         ``round(v / 257)``
animation       first frame (GIF, WebP); of an animated PNG the still picture that every viewer can show
TIFF            first page
BMP             opaque: a fourth channel is ignored
colour profile  ignored, as OpenCV does
==============  =============================================================================================

Refusals: ``empty``, ``not-an-image``, ``unsupported``, ``too-large``, ``truncated``, ``truncated-tail``,
``corrupt``. What no decoder can see is not refused: PNG carries checksums, so any flipped bit in it is found,
but in JPEG, GIF, BMP, WebP and TIFF a flipped bit often gives a valid file of another picture. libjpeg then
prints a line on stderr and OpenCV returns that picture.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from featx.decode import jpeg
from featx.decode.header import Header, corrupt, read_header, truncated
from featx.decode.pixels import Pixels, to_rgb, upright
from featx.errors import MissingDependency, PictureRefused

__all__ = ["Policy", "decode", "opencv"]

OLDEST_OPENCV = (4, 11)


@dataclass(frozen=True)
class Policy:
    """What is accepted.

    max_pixels: width times height above which a picture is refused as ``too-large``. It is read from the
    header, so nothing is allocated for a bomb. The default is 2**31 / 12, twice the size at which Pillow
    starts to warn, which lets a 13,000 x 13,000 picture pass. OpenCV's own limits also hold (a side of
    2**20, 2**30 pixels).
    salvage_tail: accept a JPEG that has all its pixels and lacks only its end marker.
    """

    max_pixels: int = 178_956_970
    salvage_tail: bool = False

    def describe(self) -> dict[str, Any]:
        """What decides the pixels, for the provenance of a store."""
        return {
            "decoder": "opencv",
            "version": str(opencv().__version__),
            "orientation": "exif",
            "alpha": "over white",
            "sixteen_bit": "round(v/257)",
            "max_pixels": self.max_pixels,
            "salvage_tail": self.salvage_tail,
        }


def decode(data: bytes, policy: Policy = Policy()) -> Pixels:
    """Upright pixels of a picture file: uint8 ``[H, W, 3]``, RGB, contiguous.

    Raises PictureRefused with one of the reasons named above; MissingDependency without a recent OpenCV.
    """
    header = read_header(data)
    if header.width * header.height > policy.max_pixels:
        raise PictureRefused(
            "too-large",
            f"{header.width} x {header.height} pixels, the limit is {policy.max_pixels:,} in all",
            "shrink it, or raise --max-pixels",
        )
    if header.unsupported:
        raise PictureRefused("unsupported", f"{header.unsupported} cannot be decoded faithfully", "convert it to PNG")
    pixels = None if header.missing else _pixels(header.data or data, header)
    if pixels is None:
        pixels = _rescue(data, header, policy)
    if sorted(pixels.shape[:2]) != sorted((header.height, header.width)):
        raise corrupt(f"the header says {header.width} x {header.height}, decoded are {pixels.shape[1::-1]}")
    return pixels


def _pixels(data: bytes, header: Header) -> Pixels | None:
    """Pixels of a file that looks whole, None when OpenCV cannot decode it."""
    cv2 = opencv()
    if header.format in ("JPEG", "BMP"):
        decoded = _imdecode(data, cv2.IMREAD_COLOR)
        return None if decoded is None else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))
    # IMREAD_COLOR would drop the alpha and cut 16 bits off; IMREAD_UNCHANGED leaves the EXIF orientation to us.
    decoded = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if decoded is None:
        return None
    if decoded.dtype not in (np.uint8, np.uint16):
        raise PictureRefused("unsupported", f"its values are {decoded.dtype}, without a range", "convert it to PNG")
    return upright(to_rgb(decoded, header.alpha, header.grey_key), header.orientation)


def _imdecode(data: bytes, flags: int) -> Pixels | None:
    cv2 = opencv()
    try:
        decoded: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # its own size limits, or an assertion on what the file says
        return None
    return decoded


def _rescue(data: bytes, header: Header, policy: Policy) -> Pixels:
    """Say why a file does not decode, or salvage it if that is allowed."""
    if not re.search(rf"(?mi)^\s*{header.format}:\s+(?!NO\b)\S", _build()) and header.format != "BMP":
        raise PictureRefused(
            "unsupported",
            f"this build of OpenCV {opencv().__version__} does not read {header.format}",
            "pip install --upgrade opencv-python-headless",
        )
    if header.format != "JPEG":
        raise truncated("before its end") if header.missing else corrupt(f"{header.format} data that do not decode")
    if not header.missing and any(marker == jpeg.EOI for marker, _, _ in jpeg.segments(data)):
        raise corrupt("JPEG data that do not decode")
    pixels = jpeg.without_end(data, lambda whole: _pixels(whole, header))
    if pixels is None:
        raise truncated(f"after {len(data)} bytes, with pixels missing")
    if not policy.salvage_tail:
        raise PictureRefused(
            "truncated-tail",
            "all pixels of the JPEG are there, only its end marker is missing",
            "allow it with --salvage",
        )
    return pixels


@functools.cache
def opencv() -> ModuleType:
    """The OpenCV module, checked and told to be silent (unless OPENCV_LOG_LEVEL says otherwise).

    Raises MissingDependency when it is absent or older than 4.11: older ones return a picture for a JPEG
    that breaks off, its rest filled with whatever was in memory.
    """
    upgrade = "pip install --upgrade 'opencv-python-headless>=4.11'"
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(f"decoding pictures needs OpenCV: {error}", upgrade) from None
    if tuple(int(number) for number in re.findall(r"\d+", cv2.__version__)[:2]) < OLDEST_OPENCV:
        raise MissingDependency(f"OpenCV {cv2.__version__} is too old, 4.11 is needed", upgrade)
    if "OPENCV_LOG_LEVEL" not in os.environ:
        (getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)  # it moved after 4.11
    return cv2


@functools.cache
def _build() -> str:
    return str(opencv().getBuildInformation())
