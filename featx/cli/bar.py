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

    def begin(self, total: int | None, done: int = 0) -> None:
        """Show the bar: of so much (None: nobody knows), of which an earlier run did ``done``."""
        self._progress = Progress(total, done, quiet=self._quiet, unit=self._unit)

    def tick(self, count: int) -> None:
        """So much more is done."""
        if self._progress is not None:
            self._progress.advance(count)

    def close(self) -> None:
        """Show the last state."""
        if self._progress is not None:
            self._progress.close()


@contextmanager
def bar(options: argparse.Namespace, unit: str = "B", *, resumes: bool = True) -> Iterator[Bar]:
    """A bar for the body, unless ``--quiet`` or ``--json``. An interruption becomes advice where the work resumes."""
    shown = Bar(options.quiet or options.json, unit)
    try:
        yield shown
    except KeyboardInterrupt:
        if not resumes:
            raise
        raise Interrupted("interrupted; what was copied is kept", "run the same command again to go on") from None
    finally:
        shown.close()


def add_sample(parser: argparse.ArgumentParser, what: str) -> None:
    """``--sample`` and its ``--seed``."""
    parser.add_argument("--sample", metavar="N|P%", help=f"{what} this many, or this share, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The ``--quiet`` flag."""
    parser.add_argument("--quiet", action="store_true", help="no progress")
