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
from featx.store.deaths import FATAL, Death, Deaths, read_deaths
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
        with disk.room(folder):
            self.deaths = Deaths(folder)
            self._find()
        suspects = {*self.deaths.suspects(source.key for source in missing)}
        self.others = [source for source in missing if source.key not in suspects]
        self.suspects: list[Source] = []
        self.aside: list[Source] = []
        self.poison: list[Source] = []
        for source in (source for source in missing if source.key in suspects):
            alone = len(self.deaths.alone(source.key))
            (self.poison if alone >= FATAL else self.aside if alone else self.suspects).append(source)
        if self.suspects:
            count = f"{len(self.suspects)} picture{'' if len(self.suspects) == 1 else 's'}"
            on_note(f"{count} that a process had in hand when it died: done first, one at a time")
        for source in self.aside:
            on_note(f"{source.key} was the only picture in hand when a process died: it comes last")

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

    def verdict(self, source: Source) -> PictureRefused:
        """Why a picture is refused that is poison."""
        fatal = self.deaths.alone(source.key)
        with disk.room(self.folder):
            self.deaths.convict(source.key)
        said = fatal[-1].error
        message = f"{len(fatal)} processes died with nothing but this picture in hand"
        refused = PictureRefused("killed-worker", f"{message}: {said}" if said else message)
        self.on_note(f"{source.key} is refused: {refused.message}")
        return refused

    def finish(self) -> None:
        """Nothing is missing: the part is about to be finished, and holds nothing of this then."""
        with disk.room(self.folder):
            self.deaths.remove()
