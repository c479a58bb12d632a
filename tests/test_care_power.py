"""Power cuts while stores are put together, taken apart and copied: what is called whole is whole, and work goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featx.care import compact, merge, pull, split
from featx.errors import FeatxError
from featx.store import Manifest, create_store, disk, open_part, open_store, verify
from tests.disk_double import Full, Recorder, image
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of

ROUNDS = 3  # choices of what survives, for each moment
TRIED = 12  # of these, chosen by the name of the work


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def works(root: Path, backend: str) -> dict[str, tuple[Callable[[Path], Any], int]]:
    """By name: what makes stores below a folder of stores in ``root``, and how many records these hold in all."""
    a = make_store(root / "a", backend, 9, parts=2)
    create_store(root / "b", backend, SCHEMA, PROVENANCE)
    with open_part(root / "b") as writer:
        for ordinal, key in enumerate(names(11)[8:]):
            writer.put(key, record_of(key), ordinal)
        writer.refuse(names(9)[6], 0, "/photos/x", "empty", "the file has no bytes")
        writer.finish()
    return {
        "merge": (lambda out: merge(out / "s", [a, root / "b"]), 10),
        "merge by links": (lambda out: merge(out / "s", [a, root / "b"], link=True), 10),
        "split by parts": (lambda out: split(a, out / "s", parts=2), 8),
        "split in blocks": (lambda out: split(a, out / "s", parts=3), 8),
        "compact": (lambda out: compact(a, out / "s"), 8),
        "compact one part": (lambda out: compact(root / "b", out / "s"), 3),
        "pull": (lambda out: pull(a.as_uri(), out / "s", jobs=1), 8),
    }


def stores(out: Path) -> list[Path]:
    return [path.parent for path in out.rglob("manifest.json")]


def check(out: Path, records: int, *, done: bool = False) -> None:
    """Every store is sound, and those that say so are complete."""
    found = stores(out)
    for store in found:
        assert verify(store).problems == []
        with open_store(store, partial=True) as reader:
            assert all(reader[key] == record_of(key) for key in reader)
    if done:
        assert all(Manifest.load(store).complete for store in found)
        assert sum(verify(store).totals.records for store in found) == records


@pytest.mark.parametrize(
    "name", ["merge", "merge by links", "split by parts", "split in blocks", "compact", "compact one part", "pull"]
)
def test_a_power_cut_at_any_moment_leaves_what_the_same_command_goes_on_with(
    tmp_path: Path, backend: str, name: str
) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "real").mkdir()
    work, records = works(tmp_path / "sources", backend)[name]
    recorder = Recorder(tmp_path / "real")
    with disk.using(recorder):
        work(tmp_path / "real")
    check(tmp_path / "real", records, done=True)
    steps = recorder.steps
    assert sum(step.name == "sync" for step in steps) > 10
    cuts = [(cut, seed) for cut in range(len(steps) + 1) for seed in range(ROUNDS)]
    for cut, seed in random.Random(name).sample(cuts, TRIED):
        target, rng = tmp_path / f"{cut}-{seed}", random.Random(1000 * cut + seed)
        image(steps[:cut], target, rng, 0 if seed == 0 else rng.choice([0.1, 0.5, 0.9, 1]))
        check(target, records, done=cut == len(steps))
        work(target)
        check(target, records, done=True)


@pytest.mark.parametrize("name", ["merge", "split by parts", "compact one part", "pull"])
def test_on_a_full_disk_they_end_with_a_sentence_and_go_on_later(tmp_path: Path, backend: str, name: str) -> None:
    (tmp_path / "sources").mkdir()
    work, records = works(tmp_path / "sources", backend)[name]
    for free in (10, 3_000, 12_000, 20_000):
        out = tmp_path / str(free)
        out.mkdir()
        with disk.using(Full(free)), pytest.raises(FeatxError, match="No space left on device"):
            work(out)
        check(out, records)
        work(out)
        check(out, records, done=True)
