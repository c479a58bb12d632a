"""Which parts are still to be done, which are given up, and when one that somebody else writes is asked for again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

TRIES = 8  # deaths of workers in one part without a picture more: several poison pictures in a row cost one each
PATIENCE = 180.0  # seconds until a part that somebody else holds, without getting on, is given up
PAUSE = 3.0  # seconds between two looks at one


class Parts:
    """The parts to be done. A part is with a worker from :meth:`take` until one of the other methods has its number."""

    def __init__(self, parts: Iterable[int], workers: int) -> None:
        self._todo, self._workers = deque(parts), workers
        self._later: dict[int, float] = {}
        self._held: dict[int, float] = {}  # since when somebody else has a part and does not get on
        self._tries: Counter[int] = Counter()
        self._in_a_row = 0
        self.failed: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._todo) + len(self._later)

    def waiting(self, now: float) -> int:
        """How many parts a worker could take at once."""
        return len(self._todo) + sum(at <= now for at in self._later.values())

    def take(self, now: float) -> int | None:
        """The next part; None while there is none."""
        if self._todo:
            return self._todo.popleft()
        due = [part for part, at in self._later.items() if at <= now]
        if due:
            del self._later[due[0]]
            return due[0]
        return None

    def finished(self) -> None:
        """A part is done."""
        self._in_a_row = 0

    def back(self, part: int) -> None:
        """A part was given up without a fault."""
        self._todo.appendleft(part)

    def died(self, part: int, moved: bool, why: str) -> bool:
        """The worker of a part died; ``moved``: it did a picture. False when the part is given up."""
        self._tries[part] = 1 if moved else self._tries[part] + 1
        self.dropped_out(moved)
        if self._tries[part] >= TRIES:
            self.failed[part] = f"its worker ended {TRIES} times without a picture more: {why}"
            return False
        self._todo.appendleft(part)
        return True

    def dropped_out(self, moved: bool = False) -> None:
        """A worker died, in a part or before it had one."""
        self._in_a_row = 1 if moved else self._in_a_row + 1

    @property
    def hopeless(self) -> bool:
        """Whether workers die one after the other, and nothing is done."""
        return self._in_a_row > TRIES * self._workers

    def busy(self, part: int, moved: bool, why: str, now: float) -> bool:
        """Somebody else writes a part, and got on with it (``moved``) since the last time. False: it is given up."""
        if moved or part not in self._held:
            self._held[part] = now
        if now - self._held[part] >= PATIENCE:
            self.failed[part] = why
            return False
        self._later[part] = now + PAUSE
        return True

    def give_up(self, part: int, why: str) -> None:
        """A part cannot be done."""
        self.failed[part] = why
