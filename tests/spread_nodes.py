"""A Ray cluster of two nodes on this machine, an extraction on it, and the death of one node in the middle.

``python tests/spread_nodes.py PHOTOS STORE FOLDER``, by a Python that has Ray; prints what happened as JSON. The second
node is a process group of its own, of which every process is killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.spread_toys import command, running, until

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def here() -> str:
    """What Ray takes for the address of this machine."""
    import ray

    return str(ray.util.get_node_ip_address())


def node(*arguments: str) -> subprocess.Popen[bytes]:
    """``ray start --block`` with two cores, in a session of its own."""
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus", "2", "--disable-usage-stats"]
    ray += ["--object-store-memory", "80000000"]
    return subprocess.Popen([*ray, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            start_new_session=True)  # fmt: skip


def below(pid: int) -> set[int]:
    """A process and all that come from it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(text.split()[0]))
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += parents.get(one, [])
    return found


def kill(process: subprocess.Popen[bytes]) -> set[int]:
    gone = below(process.pid)
    for pid in gone:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    return gone


def main(photos: str, store: str, folder: str) -> dict[str, Any]:
    os.environ |= {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_AUTH_MODE": "disabled",
    }
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # gRPC would ask a proxy for the way to this machine
    port = free_port()
    head = node("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", f"{folder}/a")
    second = None
    try:
        until(lambda: answers(port), 120)
        second = node("--address", f"{here()}:{port}", "--temp-dir", f"{folder}/b")
        wait_for_two(port)
        arguments = ("extract", photos, store, "--extractor", "toy-spread", "--set", "slow=0.2", "--parts", 6,
                     "--executor", "ray", "--jobs", 4, "--ray-address", f"{here()}:{port}")  # fmt: skip
        with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True) as run:
            workers = until(lambda: on_both(Path(store), second) or run.poll(), 240)
            killed = kill(second) if run.poll() is None else set()
            said = run.communicate(timeout=400)[1]
        return {"exit": run.returncode, "said": said, "lost": len(killed & set(workers or []))}
    finally:
        for process in (second, head):
            if process is not None and process.poll() is None:
                kill(process)


def on_both(store: Path, second: subprocess.Popen[bytes]) -> list[int] | None:
    """The processes that write parts, once some of them are of the second node and some are not."""
    found = running(store)
    there = set(found) & below(second.pid)
    return found if there and set(found) - there else None


def answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((here(), port)) == 0


def wait_for_two(port: int) -> None:
    code = f"""
import ray, time
ray.init(address="{here()}:{port}", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.3)
"""
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True, timeout=180)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
