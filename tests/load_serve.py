"""``featx serve`` under a mixed load for as long as one likes: ``python -m tests.load_serve --minutes 30``.

First good clients alone, for a tenth of the time (at most two minutes): the quiet latencies. Then with them clients
that vanish, read slowly, have no token, ask for unknown keys and send bodies that are too large, while the store is
replaced again and again and workers are killed. It prints what was seen, and exits with 1 where a byte was wrong, a
good request failed that was no killed worker's, memory grew, or the 99th percentile was over three times the quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.load_clients import MAX_BODY, MAX_KEYS, TOKEN
from tests.store_oracle import make_store

ROOT = Path(__file__).resolve().parent.parent
GOOD, BAD = ("good", "good"), ("rude", "rude", "slow", "wrong")
PAUSE = 0.02  # seconds between the rounds of a client: a load, and not a search for the limit
WORKERS = 2
REPLACE, LOOK = 10.0, 2.0  # seconds between two replacements, and between two looks at memory
KILLS_WITHIN = 5.0  # seconds after a kill in which what fails is the killed worker's
TIMES, GROWTH = 3.0, 16 << 20  # what the 99th percentile may be of the quiet one; bytes memory may grow


def measure(folder: Path, quiet: float, load: float) -> dict[str, Any]:
    """What was seen in ``quiet`` and ``load`` seconds; files in ``folder``."""
    store = make_store(folder / "s", "lmdb", 40)
    (folder / "token").write_text(TOKEN)
    with _server(folder, store) as process:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
        before = _clients(port, quiet, *GOOD).communicate()[0]
        good, bad = _clients(port, load, *GOOD), _clients(port, load, *BAD)
        events = _trouble(process.pid, folder, load)
        said = [json.loads(one.communicate()[0]) for one in (good, bad)]
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    return {**_report(json.loads(before), *said, events), "exit code": code}


def _server(folder: Path, store: Path) -> subprocess.Popen[str]:
    line = ["serve", f"s={store}", "--port", 0, "--json", "--workers", WORKERS, "--token-file", folder / "token",
            "--max-keys", MAX_KEYS, "--max-body", MAX_BODY]  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "featx", *map(str, line)], stdout=subprocess.PIPE, text=True)


def _clients(port: int, long: float, *kinds: str) -> subprocess.Popen[str]:
    """A process of clients; what they saw is on its standard output."""
    line = [sys.executable, "-m", "tests.load_clients", str(port), str(long), str(PAUSE), *kinds]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _trouble(pid: int, folder: Path, load: float) -> dict[str, Any]:
    """Replace the store and kill workers for ``load`` seconds; the memory of the server meanwhile."""
    begin, kills, memory, replaced, looked = time.monotonic(), list[float](), list[int](), 0, -LOOK
    due = [load / 3] if load < 300 else [load / 4, load / 2]  # in good time, that memory is looked at afterwards
    while (at := time.monotonic() - begin) < load:
        if due and at > due[0]:
            due.pop(0)
            kills.append(time.time())
            os.kill(_workers(pid)[0], signal.SIGKILL)
        if at > (replaced + 1) * min(REPLACE, load / 3):
            other = make_store(folder / f"n{replaced}", ("hdf5", "lmdb")[replaced % 2], 40)
            (folder / "s").rename(folder / f"old{replaced}")
            other.rename(folder / "s")
            replaced += 1
        if at - looked > LOOK:
            looked = at
            memory.append(sum(map(_anonymous, [pid, *_workers(pid)])))
        time.sleep(0.1)
    return {"kills": kills, "memory": memory, "replaced": replaced}


def _workers(pid: int) -> list[int]:
    """The processes that answer."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in _line(one)]


def _line(pid: str) -> bytes:
    """The command line of a process; empty where it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _anonymous(pid: int) -> int:
    """Bytes of a process that no file stands behind; 0 where it has just ended."""
    try:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _report(
    quiet: list[dict[str, Any]], good: list[dict[str, Any]], bad: list[dict[str, Any]], events: dict[str, Any]
) -> dict[str, Any]:
    beyond = [why for one in good for at, why in one["failed"] if not _of_kill(at, events["kills"])]
    rest = events["memory"][len(events["memory"]) * 5 // 8 :]  # after the last kill
    half = len(rest) // 2
    return {
        "good requests": sum(len(one["took"]) for one in good),
        "bad rounds": {one["kind"]: one["rounds"] for one in bad},
        "kills": len(events["kills"]),
        "stores replaced": events["replaced"],
        "wrong": [why for one in (*quiet, *good, *bad) for why in one["wrong"]],
        "failed, of a killed worker": sum(len(one["failed"]) for one in good) - len(beyond),
        "failed beyond the killed": beyond,
        "quiet ms": _percentiles(quiet),
        "loaded ms": _percentiles(good),
        "memory MB": [round(max(part, default=0) / 1e6, 1) for part in (rest[:half], rest[half:])],
    }


def _of_kill(at: float, kills: list[float]) -> bool:
    return any(kill - 0.5 < at < kill + KILLS_WITHIN for kill in kills)


def _percentiles(clients: list[dict[str, Any]]) -> dict[str, float]:
    took = [1000 * one for client in clients for one in client["took"]]
    cuts = statistics.quantiles(took, n=1000)
    return {"p50": round(cuts[499], 3), "p99": round(cuts[989], 3), "p99.9": round(cuts[998], 3)}


def main() -> int:
    """Print what was seen; 1 where a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    long = 60 * parser.parse_args().minutes
    quiet = min(120.0, long / 10)
    with tempfile.TemporaryDirectory() as folder:
        seen = measure(Path(folder), quiet, long - quiet)
    print(json.dumps(seen, indent=1))
    first, last = seen["memory MB"]
    broken = {
        "a wrong answer": seen["wrong"],
        "a good request that failed": seen["failed beyond the killed"],
        "memory that grew": (last - first) * 1e6 > GROWTH,
        "a slow answer": seen["loaded ms"]["p99"] > TIMES * seen["quiet ms"]["p99"],
        "an end with an error": seen["exit code"],
    }
    for name in (name for name, found in broken.items() if found):
        print(f"NOT as it must be: {name}")
    return int(any(broken.values()))


if __name__ == "__main__":
    sys.exit(main())
