"""How much of a mapped file is in memory: a question to the system about a sample of its pages (mincore, Linux)."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence

import numpy as np

SAMPLE = 512  # pages of a file

_mincore = getattr(ctypes.CDLL(None), "mincore", None)
if _mincore is not None:
    _mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def resident(maps: Sequence[memoryview]) -> tuple[int, float | None]:
    """Bytes that are mapped, and about how many of them are in memory; None where the system does not say."""
    shares = [(len(view), _share(view)) for view in maps if len(view)]
    mapped = sum(size for size, _ in shares)
    if any(share is None for _, share in shares):
        return mapped, None
    return mapped, sum(size * (share or 0.0) for size, share in shares)


def _share(view: memoryview) -> float | None:
    if _mincore is None:
        return None
    start = np.frombuffer(view, np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    pages = (start + len(view) - first + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    answer = ctypes.create_string_buffer(1)
    found = 0
    chosen = np.linspace(0, pages - 1, min(pages, SAMPLE)).astype(np.int64).tolist()
    for page in chosen:
        if _mincore(first + page * mmap.PAGESIZE, 1, answer) != 0:
            return None
        found += answer.raw[0] & 1
    return found / len(chosen)
