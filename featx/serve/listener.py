"""The socket that a server listens at. What is set here every connection inherits."""

from __future__ import annotations

import errno
import socket

from featx.errors import UsageError

BACKLOG = 2048
_IDLE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}  # seconds, seconds, times: then the other side is gone


def listen(host: str, port: int, patience: float) -> socket.socket:
    """A socket that listens at ``host`` and ``port``; 0 is any that is free.

    A connection is ended when its other side takes nothing of what waits for it during ``patience`` seconds (Linux).
    Raises UsageError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"there is no address {host!r} ({error})", "give a name or number of this machine") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (_IDLE | {"TCP_USER_TIMEOUT": int(patience * 1000)}).items():
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise _refused(host, port, error) from None
    made.set_inheritable(True)
    return made


def _refused(host: str, port: int, error: OSError) -> UsageError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{where} is taken by another program", "choose another --port; 0 is any that is free")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where} needs rights that this user has not", "choose a --port from 1024 on")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{host} is no address of this machine", "give one that is, or 0.0.0.0 for all")
    return UsageError(f"cannot listen at {where}: {error.strerror}", "choose another --host or --port")
