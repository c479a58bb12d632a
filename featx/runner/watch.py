"""What a part remembers of processes that died in it, and what follows: suspects, and poison."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from featx.errors import FeatxError, PictureRefused
from featx.images import Source
from featx.store import disk
from featx.store.deaths import Death, Deaths, read_deaths
from featx.store.flight import Flight, left_behind


@contextmanager
def trying(folder: Path, sources: Sequence[Source]) -> Iterator[bool]:
    """Note that ``sources`` are in hand while something is tried with them before a run.

    Gives False, and keeps no note, where a process has died in this part: nothing should be tried there.
    """
    if left_behind(folder) or read_deaths(folder):
        yield False
        return
    flight = Flight(folder)
    for source in sources:
        flight.take(source.ordinal)
    try:
        yield True
    except BaseException as error:
        if is_death(error):
            raise  # and the next run finds the note
        flight.remove()
        raise
    flight.remove()


def is_death(error: BaseException | None) -> bool:
    """Whether a process that ends so is as good as killed: what featx raises on purpose is not, nor an interrupt."""
    return isinstance(error, Exception) and not isinstance(error, FeatxError)


class Watch:
    """Keeps the note of what is in hand during a run, as a context manager, and reads that of the run before.

    An unexpected error is a death like any other: a process whose GPU gave up can do nothing more either. Whoever runs
    several parts in processes must not kill the others because one died: they would be taken for deaths, too.
    """

    def __init__(self, folder: Path, missing: Sequence[Source], on_note: Callable[[str], None]) -> None:
        self.folder, self.on_note = folder, on_note
        self.flight = Flight(folder)
        self._keys = {source.ordinal: source.key for source in missing}
        self._missing = len(missing)
        with disk.room(folder):
            self.deaths = Deaths(folder)
            self._find()
        suspects = {*self.deaths.suspects(source.key for source in missing)}
        self.suspects = [source for source in missing if source.key in suspects]
        self.others = [source for source in missing if source.key not in suspects]
        if self.suspects:
            count = f"{len(suspects)} picture{'' if len(suspects) == 1 else 's'}"
            on_note(f"{count} that a process had in hand when it died: done first, one at a time")

    def _find(self) -> None:
        """Move what the run before left into the history."""
        left = left_behind(self.folder)
        if left is not None:
            held = [self._keys[ordinal] for ordinal in sorted(left.ordinals) if ordinal in self._keys]
            death = Death(held, left.host, left.pid, left.begun, left.at)
            if self.deaths.add(death):
                self.on_note(f"{death}, in an earlier run of this part")
            self.flight.remove()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and is_death(error):
            self._note(error)
        self.flight.remove()

    def _note(self, error: BaseException) -> None:
        flight = self.flight
        held = [self._keys[ordinal] for ordinal in sorted(flight.ordinals)]
        said = f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")[:200]
        with suppress(OSError):
            self.deaths.add(Death(held, flight.host, flight.pid, flight.begun, time.time(), said))

    def take(self, source: Source) -> None:
        """A picture is about to be worked on."""
        self.flight.take(source.ordinal)

    def land(self, sources: Sequence[Source]) -> None:
        """Pictures are committed, or refused."""
        self.flight.land(source.ordinal for source in sources)
        self._missing -= len(sources)

    def is_poison(self, source: Source) -> bool:
        """Whether processes died of this picture often enough."""
        return bool(self.deaths.fatal(source.key))

    def verdict(self, source: Source) -> PictureRefused | None:
        """Why a picture is refused that is poison; None when it is likelier that something else is wrong.

        All that was handed over for writing must have landed.
        """
        fatal = self.deaths.fatal(source.key)
        if self.deaths.would_be_all(self._missing):
            self.deaths.acquit(source.key)
            self.on_note(f"one picture after the other ended its process: {source.key} is not refused, but comes last")
            return None
        self.deaths.convict(source.key, self._missing - 1)
        said = fatal[-1].error
        message = f"the process that worked on it died {len(fatal)} times, the last time with nothing else in hand"
        refused = PictureRefused("killed-worker", f"{message}: {said}" if said else message)
        self.on_note(f"{source.key} is refused: {refused.message}")
        return refused

    def finish(self) -> None:
        """Nothing is missing: the part is about to be finished, and holds nothing of this then."""
        with disk.room(self.folder):
            self.deaths.remove()
