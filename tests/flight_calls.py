"""A server of Arrow Flight in this process, and a plain client of it, as a program in another language would be.

Also a program: ``python -m tests.flight_calls NAME=PATH`` serves until its stdin ends, and says where on its stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.flight as flight

from featx.serve.flight import FlightService, serve_flight
from featx.serve.mounted import Mounts
from featx.serve.settings import Settings


@contextmanager
def served(token: str | None = None, max_keys: int = 100, max_body: int = 8192, **stores: Path | Any) -> Iterator[Any]:
    """Serve stores by name on a free port of 127.0.0.1."""
    settings = Settings(token=token, max_keys=max_keys, max_body=max_body)
    with serve_flight(settings, Mounts.of(**stores)) as service:
        yield service


def client_of(service: FlightService) -> Any:
    return flight.FlightClient(service.location)


def get(service: FlightService, ticket: object) -> Any:
    """The table that a ticket, bytes or JSON, gives."""
    data = ticket if isinstance(ticket, bytes) else json.dumps(ticket).encode()
    return client_of(service).do_get(flight.Ticket(data)).read_all()


def act(service: FlightService, name: str, body: object) -> Any:
    """The JSON that an action answers with."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    (result,) = client_of(service).do_action(flight.Action(name, data))
    return json.loads(result.body.to_pybytes())


@contextmanager
def apart(**stores: Path) -> Iterator[str]:
    """The same in a process of its own; where it is."""
    line = [sys.executable, "-m", "tests.flight_calls", *(f"{name}={path}" for name, path in stores.items())]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()
        assert process.returncode == 0


if __name__ == "__main__":
    with served(**{name: Path(path) for name, path in (word.split("=", 1) for word in sys.argv[1:])}) as running:
        print(running.location, flush=True)
        sys.stdin.read()
