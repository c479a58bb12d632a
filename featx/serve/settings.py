"""How a server is to run. Frozen when it starts; every process of it has the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal

Server = Literal["uvicorn", "granian"]
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Settings:
    """Where a server listens, who may ask, and how much of it.

    host, port: where it listens; port 0 is any that is free. token: what a request must bring, as ``Authorization:
    Bearer TOKEN``; None on loopback only. origins: of pages of other hosts that may read answers (CORS). max_body,
    max_keys, max_pixels: bytes of a request, keys of a batch, pixels of a picture that is sent. timeout: seconds for
    one request. drain: seconds that requests under way get when the server is told to end. write: whether records that
    were extracted for an answer are kept in the store.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    server: Server = "uvicorn"
    workers: int = 1
    flight: bool = False
    flight_port: int = 0
    origins: tuple[str, ...] = ()
    write: bool = False
    max_body: int = 32 << 20
    max_keys: int = 1024
    max_pixels: int = 100_000_000
    timeout: float = 60.0
    drain: float = 10.0
    quiet: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def url(self, port: int | None = None) -> str:
        """Where the server is to be found; ``port`` is the one that it got."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port if port is None else port}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine to itself, and to nobody else."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
