"""Two replicas on a local Ray cluster, one of them killed under load; says as JSON what came of it.

``python ray_load.py STORE_URL FOLDER PORT SECONDS``, by a Python that has Ray.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")  # before it is imported

import ray
from ray import serve

import featx
from examples.ray_serve import run


def actors() -> list[str]:
    """Names of the replicas that there are."""
    return [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if "#lookups#" in one["name"]]


def start() -> None:
    """A cluster of this machine. On a busy one Ray gives up on its own helpers after 15 seconds: so again, then."""
    for left in (3, 2, 1, 0):
        try:
            ray.init(num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=100 << 20)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def load(url: str, oracle: Any, end: Callable[[], bool], found: dict[str, Any]) -> None:
    """Read everything again and again, one by one and together, and compare every byte."""
    keys = list(oracle.keys())
    with featx.open_store(url, timeout=60) as store:
        while not end():
            try:
                for key in keys[:8]:
                    assert store.stored_bytes(key) == oracle.stored_bytes(key), key
                batch, wanted = store.get_batch(keys), oracle.get_batch(keys)
                assert bool((batch.features == wanted.features).all()), "batch"
                found["reads"] += 8 + len(keys)
            except AssertionError as error:
                found["wrong"].append(str(error))
            except Exception as error:
                found["failed"].append(f"{type(error).__name__}: {error}")


def main() -> None:
    origin, folder, port, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    start()
    said: dict[str, Any] = {"reads": 0, "wrong": [], "failed": []}
    try:
        run(origin, str(folder / "copies"), replicas=2, port=port)
        name = origin.rpartition("/")[2].removesuffix(".featx")
        oracle = featx.open_store(origin.removeprefix("file://"))
        before = actors()
        ended = threading.Event()
        arguments = (f"http://127.0.0.1:{port}/{name}", oracle, ended.is_set, said)
        threads = [threading.Thread(target=load, args=arguments) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: said["reads"] > 200, seconds)
        ray.kill(ray.get_actor(before[0], namespace="serve"))
        reads = said["reads"]
        replaced = until(lambda: len(set(actors()) - set(before)) == 1, seconds)
        went_on = until(lambda: said["reads"] > reads + 200, seconds)
        ended.set()
        for thread in threads:
            thread.join()
        said |= {"replicas": len(before), "replaced": replaced, "went_on": went_on}
    finally:
        serve.shutdown()
        ray.shutdown()
    print("\n" + json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
