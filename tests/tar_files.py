"""Members of WebDataset's tars for tests, made byte by byte."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from featx.schema import Array

BOXES = np.float32([[1, 2, 30, 40], [0, 0, 5.5, 6]])
FEATURES = np.float32([[1.5, -2, 0.25], [0, 3, 65504]])


def member(name: str, data: bytes, kind: bytes = b"0") -> bytes:
    """A member by the table of POSIX: ustar header of 512 bytes, data, zeros up to a multiple of 512."""
    head = bytearray(512)
    head[: len(name)] = name.encode()
    head[100:108], head[108:116], head[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    head[124:136], head[136:148] = f"{len(data):011o}\0".encode(), b"00000000000\0"
    head[148:156], head[156:157] = b" " * 8, kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return bytes(head) + data + bytes(-len(data) % 512)


def npy(array: Array, version: int = 1) -> bytes:
    """An npy by its description: the header is padded so that data begin at a multiple of 64."""
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    width = 2 if version == 1 else 4
    text += " " * (-(8 + width + len(text) + 1) % 64) + "\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + array.tobytes()


def sample(name: str, facts: dict[str, Any] | None = None, features: Array = FEATURES) -> bytes:
    """The members of a picture; ``facts`` are in its JSON."""
    told = {"height": 60, "width": 50, "objects_id": [7, 8], "caption": "a cat"}
    text = json.dumps(told if facts is None else facts).encode()
    return (
        member(f"{name}.features.npy", npy(features, 2)) + member(f"{name}.boxes.npy", npy(BOXES))
        + member(f"{name}.json", text)
    )  # fmt: skip
