"""How one part of a store stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from featx.store import PartManifest
from featx.store.process import Process
from featx.store.pulse import Pulse

State = Literal["done", "running", "stopped", "failed", "not begun"]
STATES: tuple[State, ...] = ("done", "running", "stopped", "failed", "not begun")
STALE = 60.0  # seconds without a pulse after which a process that cannot be seen from here is taken for gone


@dataclass(frozen=True)
class PartStatus:
    """part: counted from 0. done: pictures that are committed or refused, of ``total`` (None: nobody knows); refused:
    those of them that were; reasons: these, counted. rate: pictures per second of late; shares: busy time of each stage
    over that of all; limit: the stage that the others wait for; nothing of these unless it runs. heard: seconds since
    its last sign of life. why: of a part that stopped or failed, in words. deaths: processes that died in it before the
    last one, while it is unfinished."""

    part: int
    state: State
    done: int = 0
    total: int | None = None
    refused: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    rate: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    limit: str = ""
    heard: float | None = None
    process: Process | None = None
    why: str = ""
    deaths: int = 0

    @property
    def seconds_left(self) -> float | None:
        """At its present rate; None when that is nothing, or nobody knows how much there is to do."""
        return (self.total - self.done) / self.rate if self.total is not None and self.rate else None

    def to_dict(self, parts: int) -> dict[str, Any]:
        """JSON form; the part is named as ``featx extract --part`` wants it."""
        process = self.process and {"host": self.process.host, "pid": self.process.pid}
        own = {**asdict(self), "part": f"{self.part + 1}/{parts}", "process": process}
        return {**own, "records": self.done - self.refused, "seconds_left": self.seconds_left}


def finished(facts: PartManifest) -> PartStatus:
    """A part whose ``part.json`` is there."""
    totals = facts.totals
    done = totals.records + totals.refused
    return PartStatus(facts.part, "done", done, done, totals.refused, totals.reasons)


def beating(
    part: int, pulse: Pulse, age: float, reasons: Mapping[str, int], stale: float = STALE
) -> PartStatus:  # fmt: skip
    """An unfinished part with a pulse of ``age`` seconds, and the refusals of its ledger by reason."""
    alive = pulse.process.alive()
    silent = age > stale if alive is None else not alive
    state: State = "running"
    why = ""
    if pulse.state == "failed":
        state, why = "failed", pulse.error
    elif pulse.state != "running":
        state, why = "stopped", pulse.state
    elif silent:
        state, why = "stopped", "no sign of life" if alive is None else "its process is gone"
    runs = state == "running"
    return PartStatus(
        part, state, pulse.done, pulse.total,
        sum(reasons.values()) if reasons else pulse.refused, reasons, pulse.rate if runs else 0.0,
        pulse.shares if runs else {}, pulse.limit if runs else "", max(age, 0.0), pulse.process, why,
    )  # fmt: skip
