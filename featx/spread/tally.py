"""How far all parts are, by what lies in their folders: so nothing that a dead worker did is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from featx.errors import FeatxError
from featx.progress import Progress, Summary
from featx.status.folder import FolderWatch
from featx.status.part import PartStatus


class Tally:
    """Pictures done and refused, part by part; ``progress``, once there is one, is told of every one more."""

    def __init__(self, store: Path, parts: int) -> None:
        self.parts = parts
        self.progress: Progress | None = None
        self._watch = FolderWatch(store)
        self._counts = dict.fromkeys(range(parts), (0, 0))
        self._shown = dict(self._counts)

    def all(self) -> Mapping[int, PartStatus]:
        """Look at every part; {} while there is no store."""
        try:
            found = {told.part: told for told in self._watch.look().parts}
        except FeatxError:
            return {}
        for told in found.values():
            self._count(told)
        return found

    def look(self, parts: Iterable[int]) -> None:
        """Look at some, and let the progress be shown."""
        for part in parts:
            try:
                self._count(self._watch.part(part))
            except (FeatxError, OSError):  # it was not begun yet, or is just being moved
                continue
        if self.progress is not None:
            self.progress.advance(0)

    def _count(self, told: PartStatus) -> None:
        done, refused = self._counts[told.part]
        self._counts[told.part] = told.done, told.refused
        if self.progress is not None and (told.done, told.refused) != (done, refused):
            done, refused = self._shown[told.part]
            self.progress.advance(told.done - done, refused=told.refused - refused)
            self._shown[told.part] = told.done, told.refused

    def begin(self, progress: Progress, *, anew: bool) -> None:
        """From here on ``progress`` is told; anew: what was refused until now is to be tried again, and is not done."""
        self.progress = progress
        self._shown = {part: (done - refused, 0) if anew else (done, refused)
                       for part, (done, refused) in self._counts.items()}  # fmt: skip

    def of(self, part: int) -> tuple[int, int]:
        """(done, refused) of a part when it was last looked at; the refused are among the done."""
        return self._counts[part]

    def done(self, *, anew: bool) -> int:
        """Pictures of all parts that are committed or refused; ``anew``: committed."""
        return sum(done - refused * anew for done, refused in self._counts.values())

    def name(self, part: int) -> str:
        """What ``--part`` calls a part."""
        return f"{part + 1}/{self.parts}"

    def add(self, summary: Summary) -> None:
        """Where the time of a finished part went."""
        if self.progress is not None:
            for stage, share in summary.shares.items():
                self.progress.add(stage, share * summary.seconds)
