"""Tells what happens in a run to its log and to the person in front of it; every process but the first is silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from featx.train.display import Display
from featx.train.journal import Journal


class Teller:
    """Passes events on to a journal and a display, as far as there are any."""

    def __init__(self, journal: Journal | None = None, display: Display | None = None) -> None:
        self._journal, self._display = journal, display

    def tell(self, event: Mapping[str, Any]) -> None:
        """Log and show an event."""
        if self._journal is not None:
            self._journal.write(event)
        if self._display is not None:
            self._display.show(event)

    def advance(self) -> None:
        """One more step is done."""
        if self._display is not None:
            self._display.advance()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Name what goes on, while it goes on."""
        if self._display is None:
            yield
            return
        self._display.doing(what)
        yield
        self._display.doing("")

    def sync(self) -> int:
        """Make the log durable; returns its length in bytes."""
        return 0 if self._journal is None else self._journal.sync()

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of log and terminal."""
        for part in (self._journal, self._display):
            if part is not None:
                part.close()
