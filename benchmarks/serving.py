"""Look-ups over loopback: featx serve beside nginx, Redis, a bare uvicorn app, and one plain socket.

Records of 36 x 2048 float16, in the page cache of every server; the client is this process, the servers are others.
One look-up is one key out of a shuffled list, asked for when the answer before it is there; HTTP is read by the same
few lines over a socket from all three servers, into memory that is used again, and Redis by redis-py with hiredis:
http.client takes as long for the head of an answer as a server does for all of it.
A batch is 64 keys. One socket is asked for as many bytes as the answer has, with nothing around them; another sends
without end, as iperf does, and shares of batches are of that. Turns go round, so that a slow minute hits all alike;
shares are of the same turn. Two clients wait for each other, and count from the first begin to the last end.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import servers
from benchmarks.readers import key_of
from benchmarks.reading import DIM, ROWS, drawn, make_store
from benchmarks.timing import save, table
from featx import FeatureLoader, open_store

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "serving"
RECORDS, BATCH, TURNS, SINGLES, BATCHES = 512, 64, 9, 600, 24
FORMS = ("records", "views")
EPOCHS = 12  # of the loader that are timed: what it read ahead before is 2 % of it
HEAD = 4096  # bytes of an answer that its head may have
SOCKET, LINE = "one plain socket, asked", "one plain socket, without end"
Ask = Callable[[list[str]], int]  # keys -> bytes that came


class Http:
    """One kept connection; bodies go to the same memory. It knows no more of HTTP than a client in C would look at."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.path, self.room = path, memoryview(bytearray(BATCH * (ROWS * (DIM * 2 + 64) + 4096)))
        self.head = f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()

    def get(self, keys: list[str]) -> int:
        """GET of one key."""
        self.socket.sendall(f"GET {self.path}{keys[0]}".encode() + self.head + b"\r\n")
        return self._read()

    def post(self, keys: list[str]) -> int:
        """POST of all keys."""
        body = json.dumps({"keys": keys}).encode()
        told = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.socket.sendall(f"POST {self.path}".encode() + self.head + told + body)
        return self._read()

    def _read(self) -> int:
        came, end = 0, -1
        while end < 0:
            came += self.socket.recv_into(self.room[came:])
            end = bytes(self.room[: min(came, HEAD)]).find(b"\r\n\r\n")
        head = bytes(self.room[:end]).lower()
        _, _, size = head.partition(b"content-length:")
        if not head.startswith(b"http/1.1 200") or not size:
            raise RuntimeError(f"{self.path}: {head.decode('latin-1')}")
        whole = end + 4 + int(size.split(b"\r\n", 1)[0])
        while came < whole:
            came += self.socket.recv_into(self.room[came:whole], 0, socket.MSG_WAITALL)
        return whole - end - 4


class Run(NamedTuple):
    """What one client did, and when by the clock that all processes share."""

    begin: float
    end: float
    records: int
    bytes: int


def plain(port: int, size: int, asked: bool) -> Ask:
    """The socket: ``size`` bytes in, when ``asked`` for a byte out."""
    one, room = socket.create_connection(("127.0.0.1", port)), memoryview(bytearray(size))

    def ask(keys: list[str]) -> int:
        if asked:
            one.sendall(b"x")
        view = room
        while view:
            view = view[one.recv_into(view, 0, socket.MSG_WAITALL) :]
        return size

    return ask


def redis_ways(port: int, store: Path) -> tuple[dict[str, Ask], dict[str, Ask]]:
    """GET; MGET and a pipeline of GETs; of the same bytes, written here."""
    import hiredis  # noqa: F401  without it redis-py parses in Python, which would be another benchmark
    import redis

    one = redis.Redis(port=port)
    with open_store(store) as reader:
        for key in reader:
            one.set(key, reader.stored_bytes(key))

    def pipelined(keys: list[str]) -> int:
        with one.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
            return sum(map(len, pipe.execute()))

    many = {"Redis MGET": lambda keys: sum(map(len, one.mget(keys))), "Redis, GETs in a pipeline": pipelined}
    return {"Redis GET": lambda keys: len(one.get(keys[0]))}, many


def flight_way(port: int, form: str) -> Ask:
    """do_get of stored records, in one of the two forms that have them."""
    from pyarrow import flight

    client = flight.connect(f"grpc://127.0.0.1:{port}")

    def ask(keys: list[str]) -> int:
        ticket = flight.Ticket(json.dumps({"store": "s", "keys": keys, "form": form}).encode())
        return sum(chunk.data.nbytes for chunk in client.do_get(ticket))

    return ask


def bare_flight_way(port: int, rows: int) -> Ask:
    """do_get of as many records as are asked for, ``rows`` in a batch."""
    from pyarrow import flight

    client = flight.connect(f"grpc://127.0.0.1:{port}")

    def ask(keys: list[str]) -> int:
        ticket = flight.Ticket(f"{rows} {len(keys) // rows}".encode())
        return sum(chunk.data.nbytes for chunk in client.do_get(ticket))

    return ask


@contextlib.contextmanager
def everything(store: Path, record: int) -> Iterator[tuple[dict[str, Ask], dict[str, Ask], int, dict[str, str]]]:
    """All that is installed: ways to ask for one key, ways to ask for many, featx's port, and what is left out."""
    one: dict[str, Ask] = {}
    many: dict[str, Ask] = {}
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Callable[[int], list[str]], use: Callable[[int], None]) -> None:
            port = servers.free_port()
            try:
                use(stack.enter_context(servers.running(command(port), port)))
            except (RuntimeError, ImportError, OSError) as error:
                absent[name] = str(error)

        start(
            SOCKET,
            lambda port: servers.pipe(record, port),
            lambda port: one.update({SOCKET: plain(port, record, True)}),
        )
        sent = BATCH * record
        start(LINE, lambda port: servers.stream(sent, port), lambda port: many.update({LINE: plain(port, sent, False)}))
        start(
            "a batch",
            lambda port: servers.pipe(sent, port),
            lambda port: many.update({SOCKET: plain(port, sent, True)}),
        )
        start(
            "Flight itself",
            lambda port: servers.bare_flight(record, port),
            lambda port: many.update({f"Flight itself, {n} in a batch": bare_flight_way(port, n) for n in (1, BATCH)}),
        )
        start("nginx", lambda port: servers.nginx(store, WORK, port), lambda port: one.update(nginx=Http(port).get))
        start("bare", lambda port: servers.bare(store, port), lambda port: one.update({"bare app": Http(port).get}))

        def redis(port: int) -> None:
            single, batched = redis_ways(port, store)
            one.update(single)
            many.update(batched)

        start("Redis", servers.redis, redis)
        ports: list[int] = []
        routes = "/v1/stores/s/records"
        for server in ("uvicorn", "granian"):

            def ours(port: int, server: str = server) -> None:
                ports.append(port)
                one[f"featx, {server}"] = Http(port, routes + "/").get
                many[f"featx, HTTP, {server}"] = Http(port, routes).post

            start(server, lambda port, s=server: servers.featx(store, port, server=s), ours)
        other = servers.free_port()
        start(
            "Flight", lambda port: servers.flight(store, port, other),
            lambda port: many.update({f"featx, Flight, {form}": flight_way(port, form) for form in FORMS}),
        )  # fmt: skip
        yield one, many, ports[0], absent


def main() -> None:
    """Print the tables and write ``results/serving.json``."""
    WORK.mkdir(parents=True, exist_ok=True)
    store = make_store(WORK / "store", "lmdb", drawn()[:RECORDS])
    keys = [key_of(row) for row in range(RECORDS)]
    with open_store(store) as reader:
        record = len(reader.stored_bytes(keys[0]))
    with everything(store, record) as (one, many, port, absent):
        results = {"single": turns(one, keys, 1, SINGLES, record, SOCKET)}
        results["batch"] = turns(many, keys, BATCH, BATCHES, record, LINE)
        results["loader"] = loaders(port, many[LINE], keys)
    shutil.rmtree(WORK)
    for name, rows in results.items():
        print(table([[name, "records/s", "GB/s", "of the socket", "p50, ms", "p99, ms"], *map(cells, rows.items())]))
        print()
    for name, why in absent.items():
        print(f"left out: {name}: {why}")
    print("wrote", save("serving", {"records": RECORDS, "bytes": record, **results, "left out": absent}))


def turns(
    ways: dict[str, Ask], keys: list[str], size: int, asks: int, record: int, limit: str
) -> dict[str, dict[str, Any]]:
    """Every way in every turn: rates of each turn, shares of those of ``limit``, and all latencies."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, ask in random.sample(
            list(ways.items()), len(ways)
        ):  # whoever comes after a heavy one has cold caches
            took, came = [], 0
            begin = time.perf_counter()
            for _ in range(asks):
                chosen = random.sample(keys, size)
                start = time.perf_counter()
                came += ask(chosen)
                took.append(time.perf_counter() - start)
            seconds = time.perf_counter() - begin
            if came < asks * size * record:
                raise RuntimeError(f"{name}: {came} bytes came for {asks * size} records of {record}")
            if turn:
                rates[name].append((asks * size / seconds, came / seconds / 1e9))
                times[name] += took
    return {name: summary(rates[name], rates[limit], times[name]) for name in ways}


def loaders(port: int, pipe: Ask, keys: list[str]) -> dict[str, dict[str, Any]]:
    """The loader of the training loop over a URL, alone and two of them at once; the socket in the same turns."""
    names = (LINE, "FeatureLoader from a URL", "two clients at once")
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(TURNS + 1):
        begin = time.monotonic()
        came = sum(pipe(keys[:BATCH]) for _ in range(BATCHES))
        line = Run(begin, time.monotonic(), BATCHES * BATCH, came)
        for name, runs in zip(names, ([line], together(port, 1), together(port, 2)), strict=True):
            if turn:
                rates[name].append(rate(runs))
    return {name: summary(rates[name], rates[LINE], []) for name in names}


def feed(port: int, keys: list[str], ready: Callable[[], object]) -> Run:
    """What FeatureLoader feeds, without a step. The first epoch, not timed, ends with a call of ``ready``."""
    store = open_store(f"http://127.0.0.1:{port}/v1/stores/s")
    size, first = len(store.stored_bytes(keys[0])), len(keys) // BATCH
    loader = FeatureLoader(store, keys, batch=BATCH, epochs=1 + EPOCHS, fields=(), dtype="stored")
    begin, count = 0.0, 0
    for count, _ in enumerate(loader, 1):
        if count == first:
            ready()
            begin = time.monotonic()
    end, records = time.monotonic(), (count - first) * BATCH
    store.close()
    return Run(begin, end, records, records * size)


def together(port: int, clients: int) -> list[Run]:
    """Processes that feed at once: none begins before all are ready."""
    command = [sys.executable, "-m", "benchmarks.serving", str(port)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    ran: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(clients)]
    for one in ran:
        one.stdout.readline()
    for one in ran:
        one.stdin.write("go\n")
        one.stdin.flush()
    return [Run(*json.loads(one.communicate()[0])) for one in ran]


def rate(runs: list[Run]) -> tuple[float, float]:
    """Records and GB a second of all of them, from the first begin to the last end."""
    seconds = max(run.end for run in runs) - min(run.begin for run in runs)
    return sum(run.records for run in runs) / seconds, sum(run.bytes for run in runs) / seconds / 1e9


def summary(
    rates: list[tuple[float, float]], limits: list[tuple[float, float]], times: list[float]
) -> dict[str, dict[str, float]]:
    """Medians, least and most; shares are of the limit in the same turn."""
    named = {
        "records": [r for r, _ in rates], "GB": [g for _, g in rates],
        "share": [a[1] / b[1] for a, b in zip(rates, limits, strict=True)],
    }  # fmt: skip
    found = {n: {"median": statistics.median(v), "least": min(v), "most": max(v)} for n, v in named.items()}
    if times:
        cuts = statistics.quantiles(times, n=100)
        found["ms"] = {"p50": 1e3 * cuts[49], "p99": 1e3 * cuts[98]}
    return found


def cells(row: tuple[str, dict[str, Any]]) -> list[str]:
    """A line of the table."""
    records, gigabytes, share, ms = (row[1].get(name, {}) for name in ("records", "GB", "share", "ms"))
    late = [f"{ms[name]:.3f}" if ms else "" for name in ("p50", "p99")]
    return [
        row[0], f"{records['median']:,.0f} ({records['least']:,.0f} to {records['most']:,.0f})",
        f"{gigabytes['median']:.2f}", f"{share['median']:.3f} ({share['least']:.3f} to {share['most']:.3f})", *late,
    ]  # fmt: skip


def wait() -> str:
    """Say that this client is ready, and wait for the others."""
    print("ready", flush=True)
    return sys.stdin.readline()


if __name__ == "__main__":
    print(json.dumps(feed(int(sys.argv[1]), [key_of(row) for row in range(RECORDS)], wait)))
