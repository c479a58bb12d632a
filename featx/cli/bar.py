"""The bar of the commands that look after stores, and their advice to go on after Ctrl-C."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from featx.errors import Interrupted
from featx.progress import Progress


class Bar:
    """A bar that learns late how long it is. ``begin`` is told how much there is, ``tick`` how much of it is done."""

    def __init__(self, quiet: bool, unit: str = "B") -> None:
        self._quiet, self._unit = quiet, unit
        self._progress: Progress | None = None
        self._left: int | None = None

    def begin(self, total: int | None, done: int = 0) -> None:
        """Show the bar: of so much (None: nobody knows; 0: there is nothing to show), of which an earlier run did
        ``done``. The one before is through."""
        self.fill()
        self.close()
        self._progress = Progress(total, done, quiet=self._quiet or total == 0, unit=self._unit)
        self._left = None if total is None else total - done

    def tick(self, count: int) -> None:
        """So much more is done, at most what was left."""
        if self._left is not None:
            count = min(count, self._left)
            self._left -= count
        if self._progress is not None:
            self._progress.advance(count)

    def fill(self) -> None:
        """All is done, whatever was told of it: for work whose size could only be guessed."""
        self.tick(self._left or 0)

    def close(self) -> None:
        """Show the last state."""
        if self._progress is not None:
            self._progress.close()


@contextmanager
def bar(options: argparse.Namespace, unit: str = "B", *, resumes: bool = True, kept: str = "copied") -> Iterator[Bar]:
    """A bar for the body, unless ``--quiet`` or ``--json``. An interruption becomes advice where the work resumes."""
    shown = Bar(options.quiet or options.json, unit)
    try:
        yield shown
    except KeyboardInterrupt:
        if not resumes:
            raise
        raise Interrupted(f"interrupted; what was {kept} is kept", "run the same command again to go on") from None
    finally:
        shown.close()


def add_sample(parser: argparse.ArgumentParser, what: str) -> None:
    """``--sample`` and its ``--seed``."""
    parser.add_argument("--sample", metavar="N|P%", help=f"{what} this many, or this share, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The ``--quiet`` flag."""
    parser.add_argument("--quiet", action="store_true", help="no progress")
