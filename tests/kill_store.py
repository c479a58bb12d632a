"""Kill a writer with SIGKILL at random moments, resume it, and compare with what its keys say must be there.

``python -m tests.kill_store --times 200`` does so over every kind of store and prints what it saw.

The writer says on its standard output what is durable as soon as it is. After every kill the store is opened: whatever
was said must be there, whatever is there must be right, and nothing may be computed twice. Segments and groups are
small, so that kills fall into seals and into groups that are committed in the background, too.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from featx.store import create_store, hdf5_store, open_part, open_store, verify, writer
from tests.store_oracle import KINDS, PROVENANCE, REFUSED, names, record_of, write_missing

ROOT = Path(__file__).resolve().parent.parent
COUNT = 200  # pictures of one store


class Seen(NamedTuple):
    """What a loop of kills saw: kills that hit, stores that were finished, files there were at the kills."""

    kills: int
    stores: int
    files: Counter[str]


def child(path: str, kind: str) -> None:
    """Write the store, from wherever it is, and say what is durable."""
    hdf5_store.SEGMENT_BYTES, writer.GROUP_BYTES = 150_000, 20_000
    create_store(path, *KINDS[kind], PROVENANCE)
    with open_part(path) as part:
        print("opened", flush=True)
        for place in range(0, COUNT, 7):
            for key in write_missing(part, list(enumerate(names(COUNT)))[place : place + 7], group=100):
                print(key, flush=True)
        print("finishing", flush=True)
        part.finish()
    print("finished", flush=True)


def kill_once(path: Path, kind: str, moment: float) -> tuple[list[str], bool]:
    """Run the child, kill it ``moment`` seconds after it was ready. Returns what it said, and whether it lived."""
    code = "import sys; from tests.kill_store import child; child(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    said = first + process.communicate()[0]
    return [line for line in said.split("\n")[:-1] if line != "opened"], process.returncode == 0


def check(path: Path, durable: list[str]) -> None:
    """What was said is there, what is there is right."""
    with open_store(path, partial=True) as store:
        refused = {refusal.key for refusal in store.failures()}
        known = {*store, *refused}
        lost = set(durable) - known
        assert not lost, f"lost: {sorted(lost)}"
        wrong = [key for key in store if store[key] != record_of(key, store.schema)]
        assert not wrong, f"wrong: {wrong}"
        assert refused <= {*names(COUNT)[REFUSED - 1 :: REFUSED]}
    problems = verify(path).problems
    assert not problems, f"problems: {problems}"


def loop(folder: Path, kind: str, times: int, seed: int, longest: float) -> Seen:
    """Kill ``times`` times, at random moments of up to ``longest`` seconds; when a store is done the next is begun."""
    rng, kills, stores, files = random.Random(seed), 0, 0, Counter[str]()
    path, durable = folder / "0", []
    while kills < times:
        said, finished = kill_once(path, kind, rng.random() * longest)
        again = set(said) & set(durable)
        assert not again, f"computed twice: {sorted(again)}"
        durable += [line for line in said if not line.startswith("finish")]
        check(path, durable)
        files.update({file.name for file in path.glob("parts/*/*") if file.name != ".lock"})
        kills += not finished
        if finished:
            with open_store(path) as store:
                assert {*store} == {*names(COUNT)} - {*names(COUNT)[REFUSED - 1 :: REFUSED]}
            stores, durable = stores + 1, []
            path = folder / str(stores)
    return Seen(kills, stores, files)


def main() -> int:
    """The loop, for people."""
    parser = argparse.ArgumentParser(prog="kill_store", description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="kills, over all kinds of store together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=0.1, help="seconds from ready to the kill")
    options = parser.parse_args()
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            seen = loop(Path(folder), kind, options.times // len(KINDS), options.seed, options.longest)
            print(
                f"{kind}: {seen.kills} kills in {time.perf_counter() - begin:.0f} s, {seen.stores} stores finished "
                f"in between; nothing lost, nothing wrong, nothing computed twice"
            )
            print("  files at the kills:", ", ".join(f"{name} {n}" for name, n in sorted(seen.files.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
