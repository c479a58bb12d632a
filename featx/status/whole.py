"""How a store stands: all its parts together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from featx.status.part import STATES, PartStatus
from featx.store import Manifest, Refusal

Whole = Literal["complete", "unconfirmed", "running", "failed", "stopped", "not begun"]


@dataclass(frozen=True)
class StoreStatus:
    """place: folder or URL. parts: all, in their order. recent: some of the last refusals, the latest first."""

    place: str
    manifest: Manifest
    parts: Sequence[PartStatus]
    recent: Sequence[Refusal] = ()

    @property
    def state(self) -> Whole:
        """ "unconfirmed": every part is done, but the manifest does not say so (its last writer died before it did, or
        the parts do not make the list). "failed", "stopped": nothing runs, and something is to be done."""
        states = {part.state for part in self.parts}
        if states == {"done"}:
            return "complete" if self.manifest.complete else "unconfirmed"
        for state in ("running", "failed", "stopped"):
            if state in states:
                return state
        return "stopped" if "done" in states else "not begun"

    @property
    def counts(self) -> dict[str, int]:
        """Parts by state; every state is there."""
        found = Counter(part.state for part in self.parts)
        return {state: found[state] for state in STATES}

    @property
    def total(self) -> int | None:
        """Pictures of the whole list; None: nobody said."""
        said = (self.manifest.sources or {}).get("pictures")
        if said is not None:
            return int(said)
        return sum(part.done for part in self.parts) if self.counts["done"] == len(self.parts) else None

    @property
    def done(self) -> int:
        """Pictures that are committed or refused."""
        return sum(part.done for part in self.parts)

    @property
    def refused(self) -> int:
        """Pictures that were refused."""
        return sum(part.refused for part in self.parts)

    @property
    def reasons(self) -> dict[str, int]:
        """Refusals by reason, the most frequent first."""
        found: Counter[str] = Counter()
        for part in self.parts:
            found.update(part.reasons)
        return dict(found.most_common())

    @property
    def rate(self) -> float:
        """Pictures per second of all running parts together."""
        return sum(part.rate for part in self.parts)

    @property
    def seconds_left(self) -> float | None:
        """Until all is done, if whoever works now goes on with the parts that nobody works on; at least what the
        slowest running part needs. None: nobody works, or nobody knows how much there is."""
        if self.total is None or not self.rate:
            return None
        each = (part.seconds_left or 0.0 for part in self.parts)
        return max(0.0, (self.total - self.done) / self.rate, *each)

    @property
    def shares(self) -> Mapping[str, float]:
        """Busy time of each stage over that of all, of the running parts, each with the same weight."""
        running = [part.shares for part in self.parts if part.shares]
        stages = sorted({stage for shares in running for stage in shares})
        return {stage: sum(shares.get(stage, 0.0) for shares in running) / len(running) for stage in stages}

    @property
    def limit(self) -> str | None:
        """The stage that limits most of the running parts; None: nobody knows."""
        found = Counter(part.limit for part in self.parts if part.limit)
        return found.most_common(1)[0][0] if found else None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        digest = self.manifest.totals.digest if self.manifest.totals else None
        return {
            "store": self.place, "state": self.state, "backend": self.manifest.backend, "digest": digest,
            "pictures": self.total, "done": self.done, "records": self.done - self.refused,
            "refused": self.refused, "reasons": self.reasons, "rate": self.rate, "seconds_left": self.seconds_left,
            "shares": self.shares, "limit": self.limit, "counts": self.counts,
            "parts": [part.to_dict(len(self.parts)) for part in self.parts],
            "recent_refusals": [one._asdict() for one in self.recent],
        }  # fmt: skip
