"""Servers of the same stored records on loopback, each a process of its own: featx, nginx, Redis, a bare app, a socket.

Whatever is not installed is left out and named. Redis is filled by pipelines, nginx serves a folder with a file for
each record, the bare app is uvicorn and Starlette around py-lmdb, and the socket sends the same bytes with nothing
around them, for each byte that asks or without end: what one connection carries at most.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from featx import open_store

START = 30.0  # seconds a server may take to answer


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[int]:
    """A process that listens on ``port``, ended afterwards. Raises RuntimeError where it does not come up."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, port, command[0])
            yield port
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{name} does not listen on {port}")


def featx(store: Path, port: int, *, server: str = "uvicorn") -> list[str]:
    """``featx serve``, its log switched off."""
    told = ["--host", "127.0.0.1", "--port", str(port), "--server", server, "--quiet"]
    return [sys.executable, "-m", "featx", "serve", f"s={store}", *told]


def flight(store: Path, port: int, other: int) -> list[str]:
    """The same with Arrow Flight on ``port``."""
    return [*featx(store, other), "--flight", "--flight-port", str(port)]


def bare(store: Path, port: int) -> list[str]:
    """uvicorn and Starlette around py-lmdb."""
    return [sys.executable, "-m", "benchmarks.servers", "bare", str(next(store.rglob("records.lmdb"))), str(port)]


def pipe(size: int, port: int) -> list[str]:
    """A socket that answers every byte with ``size`` bytes."""
    return [sys.executable, "-m", "benchmarks.servers", "pipe", str(size), str(port)]


def bare_flight(size: int, port: int) -> list[str]:
    """Flight itself: a ticket "ROWS BATCHES" is answered with batches of ``size`` bytes a row, made beforehand."""
    return [sys.executable, "-m", "benchmarks.servers", "flight", str(size), str(port)]


def stream(size: int, port: int) -> list[str]:
    """A socket that sends without end, ``size`` bytes in each call, as iperf does."""
    return [sys.executable, "-m", "benchmarks.servers", "stream", str(size), str(port)]


def nginx(store: Path, work: Path, port: int) -> list[str]:
    """nginx over a file for each record, written here."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        raise RuntimeError("nginx is not installed")
    files = work / "files"
    files.mkdir(parents=True, exist_ok=True)
    with open_store(store) as reader:
        for key in reader:
            (files / key).write_bytes(reader.stored_bytes(key))
    (work / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/error.log;\n"
        "events { worker_connections 256; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n"
        f"  open_file_cache max=10000; client_body_temp_path {work}/body;\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ root {files}; }} }} }}\n"
    )
    return [binary, "-p", str(work), "-c", str(work / "nginx.conf")]


def redis(port: int) -> list[str]:
    """Redis without persistence."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("redis-server is not installed")
    return [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def serve_bare(path: str, port: int) -> None:
    """The bare app: a key of the URL, py-lmdb, the bytes."""
    import lmdb
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    env = lmdb.open(path, subdir=False, readonly=True, lock=False)

    async def record(request: Request) -> Response:
        with env.begin() as txn:
            return Response(txn.get(request.path_params["key"].encode()), media_type="application/octet-stream")

    app = Starlette(routes=[Route("/{key}", record)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False)


def serve_flight(size: int, port: int) -> None:
    """Batches out of memory by pyarrow's own server: nothing of it runs in Python once an answer has begun."""
    import os

    import pyarrow as pa
    from pyarrow import flight

    made: dict[int, pa.RecordBatch] = {}

    class Server(flight.FlightServerBase):  # type: ignore[misc]
        def do_get(self, context: object, ticket: flight.Ticket) -> flight.RecordBatchStream:
            rows, batches = map(int, ticket.ticket.split())
            if rows not in made:
                made[rows] = pa.record_batch([pa.array([os.urandom(size) for _ in range(rows)], pa.binary())], ["row"])
            return flight.RecordBatchStream(
                pa.RecordBatchReader.from_batches(made[rows].schema, [made[rows]] * batches)
            )

    Server(f"grpc://127.0.0.1:{port}").serve()


def serve_socket(size: int, port: int, asked: bool) -> None:
    """To each client from a thread ``size`` bytes, again and again: when ``asked``, for every byte that comes in."""
    block = memoryview(bytes(size))

    def answer(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while not asked or client.recv(1):
                client.sendall(block)

    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


if __name__ == "__main__":
    kind, told, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "bare":
        serve_bare(told, at)
    elif kind == "flight":
        serve_flight(int(told), at)
    else:
        serve_socket(int(told), at, kind == "pipe")
