"""Memory that bodies are received into, to be used again: fresh memory costs more in page faults than its bytes."""

from __future__ import annotations

import mmap
from contextlib import suppress
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
    """Buffers that several threads take and give back.

    There is no lock: what ends a loan may be the collector of garbage, in the midst of anything, or happen in a forked
    child. Each step is one call of a list, which the interpreter does as a whole.
    """

    def __init__(self) -> None:
        self._free: list[Buffer] = []

    def take(self, size: int) -> Buffer:
        """One of at least ``size`` bytes, of any content. Raises StoreError where there is no memory for it."""
        for buffer in reversed(self._free.copy()):
            if buffer.size >= size:
                with suppress(ValueError):  # another thread took it
                    self._free.remove(buffer)
                    return buffer
        return Buffer(size)

    def give(self, buffer: Buffer) -> None:
        """Take one back."""
        self._free.append(buffer)
        while len(self._free) > KEPT:
            with suppress(ValueError):
                self._free.remove(min(self._free.copy(), key=lambda buffer: buffer.size))


class Loan:
    """A buffer in use; it goes back when nobody holds this any more."""

    def __init__(self, buffers: Buffers, size: int) -> None:
        self._buffers, self.buffer = buffers, buffers.take(size)

    def __del__(self) -> None:
        if hasattr(self, "buffer"):
            self._buffers.give(self.buffer)
