"""Kill an extraction with SIGKILL at random moments, resume it, and compare with an undisturbed run.

``python -m tests.kill_loop PICTURES... --out DIR [--config configs/seeded_tiny.yaml] [--backend lmdb] [--kills 20]``

The child is the real command's own code with one addition: it logs the keys of every network call, so that work done
twice can be counted.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featx import jobs
from featx.config import load_config
from featx.record import Record
from featx.runner.writing import WAITING
from featx.store import open_store
from featx.store.verify import verify

LOST = 1 + 2 * WAITING  # pictures at most that a kill may cost at batch 1: in the network, waiting, in the commit


def child(pictures: list[str], store: str, settings: dict[str, Any], log: str, retry: bool = False) -> None:
    """Run the job, noting what reaches the network."""
    path = settings.pop("config", None)
    job = jobs.plan(pictures, store, load_config(path, settings), retry_refused=retry)

    class Logged(type(job.extractor)):  # type: ignore[misc]
        def __call__(self, batch: Sequence[Any]) -> list[Record]:
            with Path(log).open("a") as file:
                file.write("".join(f"{prepared.key}\n" for prepared in batch))
            return super().__call__(batch)  # type: ignore[no-any-return]

    job.extractor.__class__ = Logged
    jobs.run(replace(job), quiet=True)


def start(
    pictures: list[str], store: Path, settings: dict[str, Any], log: Path, retry: bool = False
) -> subprocess.Popen[bytes]:
    """The child as a process of its own."""
    arguments = json.dumps([pictures, str(store), settings, str(log), retry])
    code = "import json, sys; from tests.kill_loop import child; child(*json.loads(sys.argv[1]))"
    return subprocess.Popen([sys.executable, "-c", code, arguments])


def undisturbed(pictures: list[str], store: Path, settings: dict[str, Any]) -> tuple[str, float]:
    """Digest of a run that nobody kills, and its seconds."""
    begin = time.perf_counter()
    assert start(pictures, store, settings, store.with_suffix(".log")).wait() == 0
    return verify(store).totals.digest, time.perf_counter() - begin


def killed(
    pictures: list[str], store: Path, settings: dict[str, Any], kills: int, length: float, seed: int
) -> tuple[Counter[str], int]:
    """Kill ``kills`` times at random moments, then let it finish. Returns calls per key, and kills that hit.

    What was durable at a kill must not reach the network again. Kills that come as close upon each other as these may
    make a picture poison that was never more than near; it is tried again in the end.
    """
    moments, log, hits = random.Random(seed), store.with_suffix(".log"), 0
    durable, called = set[str](), list[str]()
    for _ in range(kills):
        process = start(pictures, store, settings, log)
        try:
            process.wait(moments.uniform(0, length))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            hits += 1
        process.wait()
        called = _calls(log, called, durable)
        if (store / "manifest.json").exists():
            problems = verify(store).problems
            assert not problems, f"after kill {hits}: {problems}"
            with open_store(store, partial=True) as partial:
                durable = set(partial)
    assert start(pictures, store, settings, log).wait() == 0
    called = _calls(log, called, durable)
    with open_store(store) as whole:
        wronged, durable = any(one.reason == "killed-worker" for one in whole.failures()), set(whole)
    if wronged:
        assert start(pictures, store, settings, log, retry=True).wait() == 0
    return Counter(_calls(log, called, durable)), hits


def _calls(log: Path, before: list[str], durable: set[str]) -> list[str]:
    """The keys that have reached the network so far, none of them ``durable`` before the last start."""
    calls = log.read_text().split("\n")[:-1] if log.exists() else []
    again = durable & {*calls[len(before) :]}
    assert not again, f"computed again, though it was durable: {sorted(again)}"
    return calls


def main() -> int:
    """The loop, for people; prints what it saw."""
    parser = argparse.ArgumentParser(prog="kill_loop", description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config")
    parser.add_argument("--weights", help="instead of those of the configuration")
    parser.add_argument("--backend", default="lmdb")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, help="kill within this many seconds of each start")
    parser.add_argument("--digest", help="of an undisturbed run, if there was one already")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {"config": options.config, "backend": options.backend, "key_rule": "stem", "weights": options.weights}
    digest, seconds = options.digest, options.longest
    if digest is None:
        digest, seconds = undisturbed(options.pictures, options.out / f"whole-{options.backend}", settings)
        print(f"undisturbed: {digest} in {seconds:.1f} s")
    store = options.out / f"killed-{options.backend}"
    calls, hits = killed(options.pictures, store, settings, options.kills, options.longest or seconds, options.seed)
    report = verify(store)
    twice = {key: n for key, n in calls.items() if n > 1}
    print(
        f"killed {hits} times: {report.totals.digest}, {len(report.problems)} problems, {report.totals.records} records"
    )
    print(f"{sum(calls.values())} network calls for {len(calls)} pictures, {len(twice)} of them more than once")
    good = report.totals.digest == digest and report.ok and sum(calls.values()) - len(calls) <= hits * LOST
    print("same content, nothing twice that was durable" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
