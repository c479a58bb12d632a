"""Who asked to stop, and how often."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Stopper:
    """First Ctrl-C (or SIGTERM): finish the batch. Second: stop at once. A context manager."""

    def __init__(self, on_note: Callable[[str], None]) -> None:
        self.asked = False
        self.on_note = on_note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.on_note("finishing the batch under way; once more stops at once (what is committed is kept)")
