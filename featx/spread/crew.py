"""What an executor has to bring: workers that can be started, given parts, stopped, and that may die."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future

from featx.spread.task import Build, Outcome, Task


class Worker(ABC):
    """One process somewhere. ``ready`` ends when it has built its extractor, or could not.

    A future that raises anything means that the process is gone, or may be: nothing more is asked of it.
    """

    ready: Future[Outcome]

    @abstractmethod
    def do(self, task: Task) -> Future[Outcome]:
        """Begin a part."""

    @abstractmethod
    def stop(self) -> None:
        """What Ctrl-C does: the first time the batch under way is finished and committed, the second time not."""

    @abstractmethod
    def end(self, *, now: bool = False) -> None:
        """Let the process go, as soon as it has nothing to do, or ``now``. Harmless for one that is gone."""


class Crew(ABC):
    """Starts workers, at most ``size`` at a time. A context manager: nothing of it is left behind."""

    size: int

    @abstractmethod
    def hire(self, build: Build) -> Worker:
        """Start a worker."""

    def why(self, error: BaseException) -> str:
        """What became of a worker whose future raised ``error``, in a few words."""
        return f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")[:200]

    @abstractmethod
    def close(self) -> None:
        """Let go of everything that is not a worker."""

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
