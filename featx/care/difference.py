"""Two stores, picture by picture: what differs, by how much, and in which step of the pipeline."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from featx.care.comparison import Comparison, compare
from featx.care.sample import choose, sample_size
from featx.care.spread import Spread
from featx.care.steps import Reason, sentence
from featx.errors import StoreDamaged, UsageError
from featx.progress import Tick
from featx.schema import Array
from featx.store import StoreReader, open_store
from featx.store.agree import differences

_SHOWN = 10
_OFFSET = 0.5  # share of the features' difference that is the same vector everywhere, to be taken for an offset
_DEGREES = ("feature noise", "feature precision")


@dataclass(frozen=True)
class Hint:
    """A step of the pipeline in which the stores differ: for so many of the compared pictures, in a sentence."""

    step: str
    pictures: int
    text: str


@dataclass
class Diff:
    """What :func:`diff` found.

    only_a, only_b: keys that one store lacks (counts, and the first of them). compared, equal: pictures. regions:
    (of A, of B, found in both). overlap and cosine are kept as distances from 1, exact where they are near it;
    apart: largest absolute difference of a region's features; shift: of its coordinates, pixels; rest: of all other
    fields that differ, by name, inf where no number says by how much. agree: (equal ids, all) by field. worst: (key,
    badness from 0 to 1, its reasons). made: what the manifests say differs.
    """

    a: str
    b: str
    only_a: int = 0
    only_b: int = 0
    some_a: list[str] = field(default_factory=list)
    some_b: list[str] = field(default_factory=list)
    common: int = 0
    compared: int = 0
    equal: int = 0
    differing: int = 0
    damaged: list[str] = field(default_factory=list)
    regions: tuple[int, int, int] = (0, 0, 0)
    overlap: Spread = field(default_factory=Spread)
    cosine: Spread = field(default_factory=Spread)
    apart: Spread = field(default_factory=Spread)
    relative: Spread = field(default_factory=Spread)
    shift: Spread = field(default_factory=Spread)
    rest: dict[str, float] = field(default_factory=dict)
    agree: dict[str, tuple[int, int]] = field(default_factory=dict)
    hints: list[Hint] = field(default_factory=list)
    worst: list[tuple[str, float, list[str]]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the same pictures have records that differ by no more than was allowed."""
        return not (self.only_a or self.only_b or self.differing or self.damaged)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "a": self.a, "b": self.b, "same": self.same, "common": self.common, "compared": self.compared,
            "equal": self.equal, "differing": self.differing, "damaged": self.damaged,
            "only_a": {"count": self.only_a, "first": self.some_a},
            "only_b": {"count": self.only_b, "first": self.some_b},
            "regions": dict(zip(("a", "b", "both"), self.regions, strict=True)),
            "iou": from_one(self.overlap), "cosine": from_one(self.cosine), "feature_max_abs": self.apart.to_dict(),
            "feature_relative": self.relative.to_dict(), "box_shift_pixels": self.shift.to_dict(),
            "fields_max_abs": {name: number if np.isfinite(number) else None for name, number in self.rest.items()},
            "id_agreement": {name: equal / total if total else None for name, (equal, total) in self.agree.items()},
            "hints": [{"step": hint.step, "pictures": hint.pictures, "text": hint.text} for hint in self.hints],
            "worst": [{"key": key, "badness": value, "reasons": why} for key, value, why in self.worst],
            "made_differently": self.made,
        }  # fmt: skip


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    sample: str | None = None,
    seed: int = 0,
    begin: Tick = lambda total: None,
    tick: Tick = lambda count: None,
) -> Diff:
    """Compare the records of two stores, whatever their backends, dtypes and makers.

    Regions are paired by the conventions in which boxes are known to differ, else by the assignment with the largest
    sum of IoU (at least 0.5 each). tolerance: what may differ and still count as the same, in pixels, features and all
    other floats; ids, fields, shapes, order and number of regions never may. sample: ``500`` or ``2%`` of the common
    pictures. ``begin`` is told how many are compared, ``tick`` of each. Unfinished stores are compared as far as they
    are. Raises StoreError, UsageError.
    """
    if tolerance < 0 or not np.isfinite(tolerance):
        raise UsageError(f"a tolerance of {tolerance} cannot be", "give a number of 0 or more")
    with open_store(a, partial=True) as first, open_store(b, partial=True) as second:
        found = Diff(str(a), str(b), made=_made(str(a), str(b), first, second))
        _keys(found, first, second)
        keys = _common(first, second)
        if sample is not None:
            keys = iter(choose(keys, sample_size(sample, found.common), seed))
        begin(found.common if sample is None else sample_size(sample, found.common))
        pictures = {one.name for reader in (first, second) for one in reader.schema.fields if one.per == "picture"}
        tally = _Tally(found, tolerance)
        for key in keys:
            try:
                tally.add(compare(key, first[key], second[key], pictures))
            except StoreDamaged as error:
                found.damaged.append(error.message)
            tick(1)
        tally.close(first, second)
    return found


class _Tally:
    """Puts comparisons together."""

    def __init__(self, found: Diff, tolerance: float) -> None:
        self._found, self._tolerance = found, tolerance
        self._reasons: dict[tuple[str, bool], list[float]] = {}
        self._worst: list[tuple[float, int, Comparison]] = []
        self._offset: Array | None = None
        self._squares, self._rows = 0.0, 0

    def add(self, one: Comparison) -> None:
        """Take up one picture."""
        found = self._found
        found.compared += 1
        found.equal += one.equal
        found.differing += one.differs(self._tolerance)
        both = (*one.counts, len(one.overlap))
        found.regions = tuple(map(sum, zip(found.regions, both, strict=True)))  # type: ignore[assignment]
        for spread, values in (
            (found.overlap, 1 - one.overlap),
            (found.cosine, 1 - one.cosine),
            (found.apart, one.apart),
        ):
            spread.add(np.maximum(values, 0))
        found.relative.add(np.array([one.relative] * bool(len(one.cosine))))
        found.shift.add(np.array([one.shift] * bool(len(one.overlap))))
        for name, number in one.rest.items():
            found.rest[name] = max(found.rest.get(name, 0.0), number)
        for name, (equal, total) in one.agree.items():
            before = found.agree.get(name, (0, 0))
            found.agree[name] = (before[0] + equal, before[1] + total)
        for reason in one.reasons:
            self._reasons.setdefault((reason.step, reason.backwards), []).append(reason.number)
        if one.offset is not None and "other input" in {reason.step for reason in one.reasons}:
            self._offset = one.offset[0] if self._offset is None else self._offset + one.offset[0]
            self._squares += one.offset[1]
            self._rows += one.offset[2]
        if not one.equal:
            small = Comparison(one.key, False, one.counts, one.reasons, one.overlap, one.cosine)
            heapq.heappush(self._worst, (one.badness, -found.compared, small))
            if len(self._worst) > _SHOWN:
                heapq.heappop(self._worst)

    def close(self, first: StoreReader, second: StoreReader) -> None:
        """Draw the conclusions."""
        found = self._found
        names = ("A", "B")
        found.worst = [
            (one.key, value, [sentence(reason, *names) for reason in one.reasons])
            for value, _, one in sorted(self._worst, key=lambda row: (-row[0], -row[1]))
        ]
        self._refine()
        hints = [
            Hint(step, len(numbers), sentence(Reason(step, backwards, float(np.median(numbers))), *names))
            for (step, backwards), numbers in self._reasons.items()
        ]
        found.hints = sorted(hints, key=lambda hint: -hint.pictures)
        if not found.common and len(first) and len(second):
            share = _alike_names(first, second)
            if share > 0:
                found.hints.insert(0, Hint("keys", 0, sentence(Reason("keys", number=share))))

    def _refine(self) -> None:
        """What only all pictures together can tell of other inputs."""
        other = self._reasons.pop(("other input", False), [])
        if not other:
            return
        share = (
            float((self._offset**2).sum()) / (self._rows * self._squares)
            if self._offset is not None and self._squares
            else 0.0
        )
        agreeing = self._found.compared - len(other) - len(self._reasons.get(("other network", False), []))
        if share >= _OFFSET:
            self._reasons["feature offset", False] = [share] * len(other)
        elif agreeing > 0 and self._agree_exactly(agreeing):
            self._reasons["channels", False] = [agreeing / self._found.compared] * len(other)
        else:
            self._reasons["other input", False] = other

    def _agree_exactly(self, agreeing: int) -> bool:
        """Whether the pictures that agree do so up to rounding, as grey ones do when only colours are exchanged."""
        noisy = sum(len(self._reasons.get((step, False), [])) for step in _DEGREES)
        return agreeing <= self._found.equal + noisy and agreeing < 0.6 * self._found.compared


def _keys(found: Diff, first: StoreReader, second: StoreReader) -> None:
    """Count what each store has alone."""
    for key in first:
        if key in second:
            found.common += 1
        else:
            found.only_a += 1
            found.some_a += [key] if len(found.some_a) < _SHOWN else []
    for key in second:
        if key not in first:
            found.only_b += 1
            found.some_b += [key] if len(found.some_b) < _SHOWN else []


def _common(first: StoreReader, second: StoreReader) -> Iterator[str]:
    return (key for key in first if key in second)


def _made(a: str, b: str, first: StoreReader, second: StoreReader) -> list[str]:
    """What the manifests say about how the stores were made."""
    mine, theirs = first.manifest.to_dict(), second.manifest.to_dict()
    return differences(mine, theirs, ("provenance", "schema"), (a, b)) + _other_labels(first, second)


def _other_labels(first: StoreReader, second: StoreReader) -> list[str]:
    kinds = dict.fromkeys([*first.labels, *second.labels])
    return [
        f"labels.{kind}: other names ({len(first.labels.get(kind) or ())} and {len(second.labels.get(kind) or ())})"
        for kind in kinds
        if list(first.labels.get(kind) or ()) != list(second.labels.get(kind) or ())
    ]


def _alike_names(first: StoreReader, second: StoreReader) -> float:
    """Share of the first store's keys that the second has too, when only what identifies a picture is looked at."""
    known = {_bare(key) for _, key in zip(range(100_000), second, strict=False)}
    mine = Counter(_bare(key) in known for _, key in zip(range(10_000), first, strict=False))
    return mine[True] / sum(mine.values())


def _bare(key: str) -> str:
    """``val2014/COCO_val2014_000000000042.jpg`` -> ``42``."""
    stem = PurePosixPath(key).name.partition(".")[0]
    tail = stem.rpartition("_")[2]
    return tail.lstrip("0") if tail.isdigit() else stem


def from_one(distance: Spread) -> dict[str, float]:
    """The facts of a spread of distances from 1 as those of the values themselves."""
    facts = distance.to_dict()
    places = {"min": "max", "p1": "p99", "p5": "p95", "p25": "p75"}
    places |= {high: low for low, high in places.items()}
    return {name: facts[name] if name == "count" else 1 - facts[places.get(name, name)] for name in facts}
