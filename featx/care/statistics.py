"""What the records of a store are like: counted as they stream by, in memory that does not grow with their number."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featx.care.places import Places
from featx.care.sample import choose, sample_size
from featx.care.spread import Spread
from featx.errors import StoreDamaged
from featx.progress import Tick
from featx.record import Record
from featx.schema import Array
from featx.store import open_store

_SIZES = 10_000  # different picture sizes that are counted one by one
_CLASSES = 1 << 20  # ids beyond are counted as unknown


@dataclass
class Dimensions:
    """Each of the D numbers of a feature by itself: float64 ``[D]`` sums, and the least and most it ever was."""

    rows: int = 0
    total: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))
    least: Array = field(default_factory=lambda: np.zeros(0))
    most: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, features: Array) -> None:
        """Take up float32 ``[N, D]``."""
        if not len(features):
            return
        if not self.rows:
            self.total, self.squares = (np.zeros(features.shape[1]) for _ in range(2))
            self.least, self.most = (np.full(features.shape[1], sign * np.inf) for sign in (1, -1))
        self.rows += len(features)
        self.total += features.sum(axis=0, dtype=np.float64)
        self.squares += np.einsum("nd,nd->d", features, features, dtype=np.float64)
        np.minimum(self.least, features.min(axis=0), out=self.least)
        np.maximum(self.most, features.max(axis=0), out=self.most)

    @property
    def mean(self) -> Array:
        """Mean of each dimension."""
        return self.total / max(self.rows, 1)

    @property
    def deviation(self) -> Array:
        """Standard deviation of each dimension."""
        return np.asarray(np.sqrt(np.maximum(self.squares / max(self.rows, 1) - self.mean**2, 0)))

    @property
    def dead(self) -> list[int]:
        """The dimensions that never were anything but 0."""
        return [int(place) for place in np.flatnonzero((self.least == 0) & (self.most == 0))]

    @property
    def constant(self) -> list[int]:
        """The dimensions that always were one number, not 0."""
        return [int(place) for place in np.flatnonzero((self.least == self.most) & (self.most != 0))]


@dataclass
class Classes:
    """How often each class is some region's. counts: by id; unknown: ids below 0 or without a name."""

    names: list[str]
    counts: Counter[int] = field(default_factory=Counter)
    unknown: int = 0

    def add(self, ids: Array) -> None:
        """Take up the ids of a record."""
        known = ids[(ids >= 0) & (ids < (len(self.names) or _CLASSES))]
        self.unknown += len(ids) - len(known)
        self.counts.update(known.tolist())

    def top(self, count: int) -> list[tuple[str, int]]:
        """The most frequent classes, by name where they have one."""
        return [(self.names[n] if n < len(self.names) else str(n), seen) for n, seen in self.counts.most_common(count)]


@dataclass
class Statistics:
    """What :func:`stats` counted; padding rows are left out.

    total, records: of the store, and read. counts: how many records have so many regions. values, norms: of features.
    area: share of the picture that a box covers; aspect: width over height; widths, heights: pixels. flat: boxes
    without area; outside: boxes that leave the picture. sizes: (height, width) of pictures. classes, confs: by field.
    """

    store: str
    total: int = 0
    records: int = 0
    regions: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    values: Spread = field(default_factory=Spread)
    norms: Spread = field(default_factory=Spread)
    dimensions: Dimensions = field(default_factory=Dimensions)
    area: Spread = field(default_factory=Spread)
    aspect: Spread = field(default_factory=Spread)
    widths: Spread = field(default_factory=Spread)
    heights: Spread = field(default_factory=Spread)
    places: Places = field(default_factory=Places)
    flat: int = 0
    outside: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sides: tuple[Spread, Spread] = field(default_factory=lambda: (Spread(), Spread()))
    classes: dict[str, Classes] = field(default_factory=dict)
    confs: dict[str, Spread] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take up one record."""
        count, (height, width) = record.count, record.size
        self.records += 1
        self.regions += count
        self.counts[count] += 1
        if len(self.sizes) < _SIZES or record.size in self.sizes:
            self.sizes[record.size] += 1
        for side, spread in zip(record.size, self.sides, strict=True):
            spread.add(np.array([side]))
        self._features(np.asarray(record.features[:count], np.float32))
        self._boxes(record.boxes[:count].astype(np.float64), height, width)
        for name, classes in self.classes.items():
            classes.add(record.extra[name][:count])
        for name, confs in self.confs.items():
            confs.add(record.extra[name][:count])

    def _features(self, features: Array) -> None:
        self.values.add(features)
        self.norms.add(np.sqrt(np.einsum("nd,nd->n", features, features)))
        self.dimensions.add(features)

    def _boxes(self, boxes: Array, height: int, width: int) -> None:
        sides = boxes[:, 2:] - boxes[:, :2]
        real = (sides > 0).all(axis=1)
        self.flat += int((~real).sum())
        limits = np.array([width, height, width, height])
        self.outside += int(((boxes < -0.01) | (boxes > limits + 0.01)).any(axis=1).sum())
        self.widths.add(sides[:, 0])
        self.heights.add(sides[:, 1])
        self.area.add(sides.prod(axis=1) / max(height * width, 1))
        self.aspect.add(sides[real, 0] / sides[real, 1])
        self.places.add(boxes / np.maximum(limits, 1))

    @property
    def sampled(self) -> bool:
        """Whether there are records that were not looked at."""
        return self.records + len(self.damaged) < self.total

    @property
    def zero_share(self) -> float:
        """Share of the features' values that are 0."""
        return self.values.zeros / self.values.count if self.values.count else 0.0

    def notes(self) -> list[str]:
        """What a person should know who looks at nothing else."""
        dead, constant = self.dimensions.dead, self.dimensions.constant
        found = [
            (self.damaged, f"damaged records, left out: {len(self.damaged):,}; `featx verify` lists them"),
            (self.values.odd, f"values of features that are not finite: {self.values.odd:,}"),
            (dead, f"dimensions that are always 0: {len(dead):,} of {len(self.dimensions.total):,}"),
            (constant, f"dimensions that never change: {len(constant):,}"),
            (self.flat, f"boxes without area: {self.flat:,}"),
            (self.outside, f"boxes that leave their picture: {self.outside:,}"),
        ]
        notes = [text for wrong, text in found if wrong]
        notes += [f"{name} of no known class: {kind.unknown:,}" for name, kind in self.classes.items() if kind.unknown]
        notes += [
            f"all {name} are 0" for name, kind in self.classes.items() if self.regions and set(kind.counts) == {0}
        ]
        if self.norms.count and abs(self.norms.least - 1) < 0.01 and abs(self.norms.most - 1) < 0.01:
            notes.append("features are divided by their norm")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """JSON form; classes by name, most frequent first."""
        dimensions = self.dimensions
        return {
            "store": self.store, "total": self.total, "records": self.records, "regions": self.regions,
            "regions_per_record": {str(n): seen for n, seen in sorted(self.counts.items())},
            "features": {**self.values.to_dict(), "zeros": self.zero_share}, "norms": self.norms.to_dict(),
            "dimensions": {"dead": dimensions.dead, "constant": dimensions.constant,
                           "mean": dimensions.mean.tolist(), "deviation": dimensions.deviation.tolist()},
            "box_area_share": self.area.to_dict(), "box_aspect": self.aspect.to_dict(),
            "box_width": self.widths.to_dict(), "box_height": self.heights.to_dict(),
            "flat_boxes": self.flat, "boxes_outside": self.outside, "positions": self.places.grid().tolist(),
            "picture_height": self.sides[0].to_dict(), "picture_width": self.sides[1].to_dict(),
            "picture_sizes": {f"{w}x{h}": seen for (h, w), seen in self.sizes.most_common(20)},
            "classes": {name: dict(kind.top(len(kind.counts))) for name, kind in self.classes.items()},
            "confidences": {name: spread.to_dict() for name, spread in self.confs.items()},
            "notes": self.notes(), "damaged": self.damaged,
        }  # fmt: skip


def stats(
    path: str | os.PathLike[str],
    *,
    sample: str | None = None,
    seed: int = 0,
    begin: Tick = lambda total: None,
    tick: Tick = lambda count: None,
) -> Statistics:
    """Count what the records of a store, or a ``sample`` of them (``500``, ``2%``), are like.

    One record is held at a time. Damaged ones are left out and told. ``begin`` is told how many are read, ``tick`` of
    each. An unfinished store is read as far as it is. Raises StoreError, UsageError.
    """
    with open_store(path, partial=True) as store:
        keys: Iterable[str] = store
        count = len(store)
        if sample is not None:
            count = sample_size(sample, count)
            keys = choose(store, count, seed)
        found = Statistics(str(path), total=len(store), about=store.manifest.to_dict())
        for field_ in store.schema.extras:
            kind = {"object_ids": "objects", "attribute_ids": "attributes"}.get(field_.name)
            if kind is not None:
                names = [str(name).split(",")[0] for name in store.labels.get(kind) or ()]
                found.classes[field_.name] = Classes(names)
            elif field_.name in ("object_confs", "attribute_confs"):
                found.confs[field_.name] = Spread()
        begin(count)
        for key in keys:
            try:
                found.add(store[key])
            except StoreDamaged as error:
                found.damaged.append(error.message)
            tick(1)
    return found
