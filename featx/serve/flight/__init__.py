"""Stores over Arrow Flight, for bulk readers in any language: docs/serving.md has tickets, columns and actions.

Inside, imports go one way: tickets < columns < rows, actions, faults < server, sockets < here.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError
from featx.serve.flight.sockets import hang_up
from featx.serve.flight.tickets import Limits
from featx.serve.mounted import Mounts
from featx.serve.settings import Settings
from featx.store.remote.flight_faults import flight_library

if TYPE_CHECKING:
    from featx.serve.flight.server import Server

__all__ = ["FlightService", "serve_flight"]
_GRACE = 0.5  # seconds that streams get to notice that their time is over
_TRIES = 4


class FlightService:
    """A server that runs in threads of its own. location: where it is found, port: the one that it got."""

    def __init__(self, server: Server, location: str) -> None:
        self._server, self.location, self.port = server, location, int(server.port)

    def close(self, drain: float = 0.0) -> bool:
        """Take no more calls, and give those under way ``drain`` seconds to end. Whether all of them did.

        Streams break off then, and connections whose clients take nothing are cut: gRPC would wait for them for ever.
        """
        ending = Thread(target=self._server.shutdown, name="featx-flight-end", daemon=True)
        ending.start()
        ending.join(drain)
        drained = not ending.is_alive()
        self._server.ending = True
        for _ in range(_TRIES):
            ending.join(_GRACE)
            if not ending.is_alive():
                break
            hang_up(self.port)
        return drained

    def __enter__(self) -> FlightService:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def serve_flight(
    settings: Settings, mounts: Mounts, *, tls: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None
) -> FlightService:
    """Serve stores over Arrow Flight, at ``settings.host`` and ``settings.flight_port``, from now on.

    It returns at once; several processes cannot share the port. tls: files of a certificate and its key, PEM. Raises
    UsageError for another address than loopback without a token, StoreError when it cannot listen there, and
    MissingDependency without pyarrow.
    """
    if settings.token is None and not settings.loopback:
        raise UsageError(
            f"{settings.host} can be reached from outside, and no token is set",
            "give one with --token-file or in FEATX_TOKEN, or listen at 127.0.0.1",
        )
    flight_library()
    from featx.serve.flight.server import listen

    scheme, host = "grpc+tls" if tls else "grpc", f"[{settings.host}]" if ":" in settings.host else settings.host
    pem: Any = None if tls is None else tuple(_read(Path(path)) for path in tls)
    limits = Limits(settings.max_keys, settings.max_body)
    server = listen(f"{scheme}://{host}:{settings.flight_port}", mounts, limits, settings.token, pem)
    return FlightService(server, f"{scheme}://{host}:{server.port}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "give a certificate and its key, PEM") from None
