"""Check a random share of a store's records, and say what that tells of the others."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from featx.codec import store_key
from featx.errors import FeatxError, StoreError, UsageError
from featx.progress import Tick
from featx.store import Manifest, PartManifest, Problem, disk, open_store
from featx.store.base import backend
from featx.store.manifest import part_folder

CERTAINTY = 0.95


@dataclass(frozen=True)
class Sample:
    """What :func:`check_sample` found. checked of records were read whole; ``problems`` as in a full report."""

    path: Path
    records: int
    checked: int
    damaged: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with what was read."""
        return not self.problems

    @property
    def bound(self) -> float:
        """The damage rate that lies above the true one with 95 % certainty."""
        return rate_bound(self.records, self.checked, self.damaged)

    def __str__(self) -> str:
        share = f"{self.checked:,} of {self.records:,} records checked, {self.damaged:,} damaged"
        if self.checked == self.records:
            return share
        rate = f"{100 * self.bound:.2g} %"
        if self.damaged:
            return f"{share}: with {CERTAINTY:.0%} certainty less than {rate} of all are"
        return f"{share}: a damage rate above {rate} would have been seen with {CERTAINTY:.0%} certainty"


def sample_size(text: str, records: int) -> int:
    """``500`` or ``2%`` of so many records as a number of them, at least one. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(%?)\s*", text)
    number = float(found[1]) if found else -1.0
    if found is None or number <= 0 or (found[2] and number > 100) or (not found[2] and number != int(number)):
        raise UsageError(f"a sample of {text!r} cannot be taken", "give a number of records, or a share such as 2%")
    wanted = math.ceil(records * number / 100) if found[2] else int(number)
    return min(records, max(1, wanted))


def check_sample(
    path: str | os.PathLike[str],
    size: str,
    seed: int = 0,
    *,
    begin: Tick = lambda count: None,
    tick: Tick = lambda count: None,
) -> Sample:
    """Check structure, sizes and counts of the store in the folder ``path``, and ``size`` of its records whole.

    size: ``500``, or ``2%``. The same seed takes the same records. ``begin`` is told how many will be read, ``tick`` of
    each. Raises UsageError for a size that is none, StoreError for what is not a store.
    """
    store = Path(path)
    manifest = Manifest.load(store)
    problems = list(_parts(store, manifest))
    try:
        reader = open_store(store, partial=True)
    except StoreError as error:
        return Sample(store, 0, 0, 0, [*problems, Problem(store, None, error.message)])
    with reader:
        chosen = choose(reader, sample_size(size, len(reader)), seed)
        begin(len(chosen))
        damaged = []
        for key in chosen:
            try:
                reader[key].check(reader.schema)
            except FeatxError as error:
                damaged.append(Problem(store, key, error.message))
            tick(1)
        return Sample(store, len(reader), len(chosen), len(damaged), [*problems, *damaged])


def choose(keys: Iterable[str], count: int, seed: int) -> list[str]:
    """``count`` of the keys, each set of them equally likely, in their order; memory for the chosen alone."""
    draw, kept = random.Random(seed), []
    for place, key in enumerate(keys):
        if place < count:
            kept.append((place, key))
        elif (other := draw.randint(0, place)) < count:
            kept[other] = (place, key)
    return [key for _, key in sorted(kept)]


def rate_bound(records: int, checked: int, damaged: int, certainty: float = CERTAINTY) -> float:
    """The least share of ``records`` such that more damage would have shown more often than ``certainty``.

    The number of damaged ones among those checked is hypergeometric: with D damaged, finding at most ``damaged`` in
    ``checked`` drawn without replacement has the probability sum_k C(D, k) C(R - D, n - k) / C(R, n).
    """
    low, high = damaged, records - checked + damaged  # the most there can be
    while low < high:
        middle = (low + high) // 2
        if _at_most(damaged, records, middle + 1, checked) <= 1 - certainty:
            high = middle
        else:
            low = middle + 1
    return low / records if records else 0.0


def _at_most(found: int, records: int, bad: int, checked: int) -> float:
    terms = range(max(0, checked - (records - bad)), min(found, bad, checked) + 1)
    return sum(
        math.exp(_choose(bad, k) + _choose(records - bad, checked - k) - _choose(records, checked)) for k in terms
    )


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _parts(store: Path, manifest: Manifest) -> Iterator[Problem]:
    """What is wrong with the parts that shows without reading records."""
    for number in range(manifest.parts):
        folder = part_folder(store, number, manifest.parts)
        try:
            part = PartManifest.load(folder)
            if part is None:
                if manifest.complete:
                    yield Problem(
                        folder / "part.json", None, "is missing, yet manifest.json says the store is complete"
                    )
                continue
            with disk.reading(folder):
                part.check_files(folder)
                yield from (
                    Problem(path, None, what)
                    for path, what in backend(manifest.backend).structure(folder, manifest.schema)
                )
                yield from _counts(folder, manifest, part)
        except FeatxError as error:
            yield Problem(folder, None, error.message)


def _counts(folder: Path, manifest: Manifest, part: PartManifest) -> Iterator[Problem]:
    shards = backend(manifest.backend).open_shards(folder, manifest.schema, sealed=True)
    found = sum(map(len, shards))
    for shard in shards:
        shard.close()
    if found != part.totals.records:
        yield Problem(folder / "part.json", None, f"it says {part.totals.records} records, the files hold {found}")
    for stored, name in part.aliases.items():
        if store_key(name) != stored.encode():
            yield Problem(folder / "part.json", name, f"is not the original of {stored!r}")
