"""Records that were made lately, in memory, up to so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

OVERHEAD = 1024  # bytes that an entry costs beside its arrays, roughly


class Memory(Generic[V]):
    """A mapping that forgets what was used longest ago, once its values together have more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self.hits = self.misses = 0
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> V | None:
        """The value, which counts as used now; None when it is not there (any more)."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                self.misses += 1
                return None
            self.hits += 1
            self._held.move_to_end(key)
            return held[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of ``size`` bytes; one larger than the limit is not kept."""
        size += OVERHEAD
        with self._lock:
            if key in self._held:
                self.bytes -= self._held.pop(key)[1]
            if size > self.limit:
                return
            self._held[key] = value, size
            self.bytes += size
            while self.bytes > self.limit:
                _, (_, gone) = self._held.popitem(last=False)
                self.bytes -= gone
