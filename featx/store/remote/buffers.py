"""Memory that bodies are received into, to be used again: fresh memory costs more in page faults than its bytes."""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np

from featx.errors import StoreError

STEP = 1 << 21  # bytes; sizes are multiples of this
KEPT = 8  # buffers that wait to be used again
_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0) | getattr(mmap, "MAP_NORESERVE", 0)


class Buffer:
    """Bytes that begin at a multiple of a page. They come to be where they are written: a size alone costs nothing."""

    def __init__(self, size: int) -> None:
        self.size = -(-max(size, 1) // STEP) * STEP
        try:
            made: Any = mmap.mmap(-1, self.size, _FLAGS)
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise StoreError(
                f"an answer of {size:,} bytes is announced, for which there is no memory ({error})",
                "ask for fewer records at a time; no server of featx sends that much at once",
            ) from None
        if hasattr(made, "madvise") and hasattr(mmap, "MADV_HUGEPAGE"):
            made.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(made)
        self.address = int(np.frombuffer(made, np.uint8).ctypes.data)


class Buffers:
    """Buffers that several threads take and give back."""

    def __init__(self) -> None:
        self._free: list[Buffer] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> Buffer:
        """One of at least ``size`` bytes, of any content. Raises StoreError where there is no memory for it."""
        with self._lock:
            fitting = [place for place, buffer in enumerate(self._free) if buffer.size >= size]
            if fitting:
                return self._free.pop(fitting[-1])
        return Buffer(size)

    def give(self, buffer: Buffer) -> None:
        """Take one back."""
        with self._lock:
            self._free.append(buffer)
            if len(self._free) > KEPT:
                self._free.remove(min(self._free, key=lambda buffer: buffer.size))


class Loan:
    """A buffer in use; it goes back when nobody holds this any more."""

    def __init__(self, buffers: Buffers, size: int) -> None:
        self._buffers, self.buffer = buffers, buffers.take(size)

    def __del__(self) -> None:
        if hasattr(self, "buffer"):
            self._buffers.give(self.buffer)
