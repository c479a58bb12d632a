"""A file block by block, and its hash from its bytes as they come, spelled as its part.json spells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import xxhash

from featx.store.manifest import FRONT, TAIL

BLOCK = 4 << 20  # bytes that are read or asked for at a time


class Hashing:
    """xxh3_128 of what :meth:`update` is given, in the order of the file; ``like`` the hash it will be compared with.

    One that begins with "tail:" takes the first 4096 bytes last (FORMAT.md).
    """

    def __init__(self, like: str) -> None:
        self._tail = like.startswith(TAIL)
        self._state = xxhash.xxh3_128()
        self._front = b""

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        lacking = FRONT - len(self._front) if self._tail else 0
        self._front += block[:lacking]
        self._state.update(block[lacking:])

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        state = self._state.copy()
        state.update(self._front)
        return TAIL * self._tail + str(state.hexdigest())


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file in blocks."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
