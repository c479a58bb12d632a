"""How a run on a part is doing, told now and then in a small file of the part's folder, for whoever looks from outside.

The file is written beside its name and renamed, without a sync: it need not survive a power cut, nothing is decided by
it, and no reader of records looks at it. It lies in unfinished parts only. A disk that is full or cannot be written for
a moment leaves the file as it was; the run never learns of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from featx.errors import Interrupted
from featx.store.process import Process

FILE = "pulse.json"
EVERY = 5.0  # seconds between two
_SAMPLES = 13  # moments at which pictures were finished, from which the rate is taken


class Count(NamedTuple):
    """done: pictures of the part that are finished, those of earlier runs and the refused included; refused: by this
    run; shares: busy time of each stage over that of all; limit: the stage that the others wait for, if it is known."""

    done: int
    refused: int
    shares: Mapping[str, float]
    limit: str | None = None


@dataclass(frozen=True)
class Pulse:
    """What the file says. state: "running", "interrupted" or "failed" (then error says of what). rate: pictures per
    second of late. times: seconds since 1970 by the writer's clock; begun: of this run; moved: when a picture was last
    finished."""

    state: str
    done: int
    refused: int
    total: int
    rate: float
    begun: float
    moved: float
    time: float
    shares: Mapping[str, float] = field(default_factory=dict)
    limit: str = ""
    process: Process = field(default_factory=Process)
    error: str = ""

    def document(self) -> bytes:
        """The content of the file."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def read(cls, document: bytes) -> Pulse | None:
        """The pulse in the content of a file; None for what is none, for nothing depends on it."""
        try:
            data = json.loads(document)
            known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
            return cls(**{**known, "process": Process(**data["process"])})._checked()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _checked(self) -> Pulse:
        """The same with numbers that are numbers. Raises ValueError or TypeError."""
        return replace(
            self, state=str(self.state), error=str(self.error), limit=str(self.limit),
            done=int(self.done), refused=int(self.refused), total=int(self.total),
            rate=float(self.rate), begun=float(self.begun), moved=float(self.moved), time=float(self.time),
            shares={str(stage): float(share) for stage, share in dict(self.shares).items()},
        )  # fmt: skip


def read_pulse(folder: Path) -> Pulse | None:
    """The pulse of the part in ``folder``; None where there is none that can be read."""
    try:
        return Pulse.read((folder / FILE).read_bytes())
    except OSError:
        return None


def remove_pulse(folder: Path) -> None:
    """Remove what there is of a pulse."""
    for path in (folder / FILE, _draft(folder)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def ended(error: BaseException) -> tuple[str, str]:
    """The state in which an error leaves a run, and why."""
    if isinstance(error, Interrupted | KeyboardInterrupt | GeneratorExit):
        return "interrupted", ""
    return "failed", str(getattr(error, "message", None) or f"{type(error).__name__}: {error}")


class Heart:
    """Writes the pulse of a part from a thread of its own, from the beginning of its ``with`` block to the end.

    When the block ends with an error, the last pulse stays and says so; otherwise it is removed, or was already by
    :meth:`stop`. ``count`` is asked from that thread.
    """

    def __init__(self, folder: Path, total: int, count: Callable[[], Count], every: float = EVERY) -> None:
        self.folder, self._total, self._count, self._every = folder, total, count, every
        self._begun = self._moved = time.time()
        self._process = Process.this()
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heart:
        self._beat("running")
        self._thread = threading.Thread(target=self._run, name="featx-pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.stop()
            return
        self._still()
        if (self.folder / "part.json").exists():
            return  # what failed came behind the part
        self._beat(*ended(error))

    def stop(self) -> None:
        """End it and remove the file: the part is about to be finished. Stopping twice is harmless."""
        self._still()
        remove_pulse(self.folder)

    def _still(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._beat("running")

    def _beat(self, state: str, error: str = "") -> None:
        """Write one; whatever goes wrong, the next one may do better."""
        with suppress(Exception):
            data = self._pulse(state, error).document()
            _draft(self.folder).write_bytes(data)
            _draft(self.folder).replace(self.folder / FILE)

    def _pulse(self, state: str, error: str) -> Pulse:
        count, now, clock = self._count(), time.time(), time.monotonic()
        if not self._samples or self._samples[-1][1] != count.done:
            self._moved = now if self._samples else self._moved
            self._samples.append((clock, count.done))
        first, done = self._samples[0]
        rate = (count.done - done) / (clock - first) if clock > first else 0.0  # sinks while nothing is finished
        return Pulse(
            state, count.done, count.refused, self._total, rate, self._begun, self._moved, now, dict(count.shares),
            count.limit or "", self._process, error[:1000],
        )  # fmt: skip


def _draft(folder: Path) -> Path:
    return folder / f".{FILE}.tmp"
