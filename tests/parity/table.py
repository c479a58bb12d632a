"""The table of comparisons: stage, peer, largest error, tolerance, verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.parity.folder import as_numpy


@dataclass(frozen=True)
class Row:
    """One comparison; ``error`` is the largest absolute difference, or the number of unequal entries when exact."""

    peer: str
    stage: str
    error: float
    tolerance: float
    exact: bool
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


class Table:
    """Collects rows for one peer at a time."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def close(self, peer: str, stage: str, got: Any, want: Any, tolerance: float, note: str = "") -> None:
        """Floats: the largest absolute difference must not exceed ``tolerance``."""
        a, b = as_numpy(got).astype(np.float64), as_numpy(want).astype(np.float64)
        if a.shape != b.shape:
            self.rows.append(Row(peer, stage, math.inf, tolerance, False, f"shape {a.shape}, expected {b.shape}"))
            return
        error = float(np.abs(a - b).max()) if a.size else 0.0
        self.rows.append(Row(peer, stage, math.inf if math.isnan(error) else error, tolerance, False, note))

    def relative(self, peer: str, stage: str, got: Any, want: Any, tolerance: float) -> None:
        """Floats of very different size: each difference is divided by 1 + the size of the expected value."""
        a, b = as_numpy(got).astype(np.float64), as_numpy(want).astype(np.float64)
        self.close(peer, stage, (a - b) / (1 + np.abs(b)), np.zeros_like(b), tolerance, "relative")

    def equal(self, peer: str, stage: str, got: Any, want: Any) -> None:
        """Ids, indices, masks and sizes: every entry must be the same."""
        a, b = as_numpy(got), as_numpy(want)
        if a.shape != b.shape:
            self.rows.append(Row(peer, stage, math.inf, 0, True, f"shape {a.shape}, expected {b.shape}"))
            return
        self.rows.append(Row(peer, stage, float((a != b).sum()), 0, True))

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]

    def as_json(self) -> list[dict[str, Any]]:
        return [{**asdict(row), "ok": row.ok} for row in self.rows]

    def __str__(self) -> str:
        wide = max([len(row.stage) for row in self.rows] + [5])
        lines = [f"{'peer':<10} {'stage':<{wide}} {'max error':>10} {'tolerance':>10}  ok"]
        for row in self.rows:
            error = f"{row.error:.0f} differ" if row.exact and row.error != math.inf else f"{row.error:.1e}"
            limit = "exact" if row.exact else f"{row.tolerance:.1e}"
            verdict = "yes" if row.ok else "NO "
            note = f"  {row.note}" if row.note else ""
            lines.append(f"{row.peer:<10} {row.stage:<{wide}} {error:>10} {limit:>10}  {verdict}{note}")
        return "\n".join(lines)
