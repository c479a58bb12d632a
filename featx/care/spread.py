"""How numbers are spread, counted as they come: in flat memory, however many they are."""

from __future__ import annotations

import numpy as np

from featx.schema import Array

_BINS = 1 << 16


class Spread:
    """Counts float values by the upper half of their float32, so quantiles are within 0.8 % (1/128) of the value.

    Smallest, largest, sum and number are exact. Values that are not finite are counted apart.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.count, self.total = 0, 0.0
        self.least, self.most = np.inf, -np.inf
        self.odd = 0

    def add(self, values: Array) -> None:
        """Take up an array of numbers, any shape."""
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        bits = flat.view(np.uint32) >> 16
        if len(bits) < _BINS:
            np.add.at(self._counts, bits, 1)  # a count of every bin would take longer than the few values
        else:
            self._counts += np.bincount(bits, minlength=_BINS)
        finite = flat if np.isfinite(flat).all() else flat[np.isfinite(flat)]
        self.odd += len(flat) - len(finite)
        if len(finite):
            self.count += len(finite)
            self.total += float(finite.sum(dtype=np.float64))
            self.least = min(self.least, float(finite.min()))
            self.most = max(self.most, float(finite.max()))

    @property
    def mean(self) -> float:
        """0 of nothing."""
        return self.total / self.count if self.count else 0.0

    @property
    def zeros(self) -> int:
        """How many values are 0 (or so small that their upper half is: below 1e-40)."""
        return int(self._counts[0] + self._counts[0x8000])

    def quantile(self, share: float) -> float:
        """The value below which ``share`` of all lie; 0 of nothing."""
        if not self.count:
            return 0.0
        values, counts = self._sorted()
        place = int(np.searchsorted(np.cumsum(counts), share * self.count, side="left"))
        return float(np.clip(values[min(place, len(values) - 1)], self.least, self.most))

    def histogram(self, edges: Array) -> Array:
        """About how many values lie between neighbouring ``edges`` (ascending): float64, one fewer than edges.

        The values of one bin are taken to be spread evenly over it.
        """
        found = np.flatnonzero(self._counts)
        near = (found.astype(np.uint32) << 16).view(np.float32)
        far = ((found.astype(np.uint32) << 16) | 0xFFFF).view(np.float32)
        kept = np.isfinite(near) & np.isfinite(far)
        low, high = (bound(near, far)[kept].astype(np.float64) for bound in (np.minimum, np.maximum))
        order = np.argsort(low, kind="stable")
        below = np.concatenate(([0], np.cumsum(self._counts[found][kept][order])))
        ends = np.stack([low[order], high[order]], 1).reshape(-1)
        shares = np.stack([below[:-1], below[1:]], 1).reshape(-1).astype(np.float64)
        return np.diff(np.interp(edges, ends, shares, left=0)) if len(ends) else np.zeros(len(edges) - 1)

    def to_dict(self) -> dict[str, float]:
        """count, mean, least, most and a few quantiles."""
        if not self.count:
            return {"count": 0}
        shares = {f"p{round(100 * share)}": self.quantile(share) for share in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)}
        return {"count": self.count, "mean": self.mean, "min": self.least, "max": self.most, **shares}

    def _sorted(self) -> tuple[Array, Array]:
        """The values that occur, ascending, each as the middle of its bin, and how often."""
        found = np.flatnonzero(self._counts)
        middle = np.where(found & 0x7FFF, 0x8000, 0)  # zero stays zero
        values = ((found.astype(np.uint32) << 16) | middle.astype(np.uint32)).view(np.float32)
        finite = np.isfinite(values)
        values, counts = values[finite], self._counts[found][finite]
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]
