"""Connections that a server of gRPC will not give up: its calls end when their sockets do."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def hang_up(port: int) -> int:
    """Shut down every connection of this process to its own ``port``. Returns how many there were."""
    folder, ended = Path("/proc/self/fd"), 0
    if not folder.is_dir():
        folder = Path("/dev/fd")  # not Linux
    for name in [entry.name for entry in folder.iterdir()]:
        with suppress(OSError, ValueError):
            ended += _hang_up(int(name), port)
    return ended


def _hang_up(number: int, port: int) -> bool:
    """Shut a descriptor down if it is such a connection. Raises OSError for what is no socket."""
    with socket.socket(fileno=os.dup(number)) as own:
        if own.family not in (socket.AF_INET, socket.AF_INET6) or own.getsockname()[1] != port:
            return False
        own.getpeername()  # a socket that listens has none
        own.shutdown(socket.SHUT_RDWR)
        return True
