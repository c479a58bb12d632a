"""A server from its first word to its last: it listens, says where, serves, and drains when it is told to end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from featx.errors import UsageError
from featx.serve.listener import listen
from featx.serve.plan import Plan, application
from featx.serve.settings import Settings


@dataclass(frozen=True)
class Running:
    """Where a server is to be found."""

    url: str
    flight: str | None


def serve(plan: Plan, announce: Callable[[Running], object]) -> None:
    """Serve until SIGTERM or SIGINT; what is under way then has ``drain`` seconds. ``announce`` is told where,
    as soon as signals are heeded and requests answered.

    Raises UsageError for an address that cannot be used, MissingDependency.
    """
    settings = plan.settings
    check(settings)
    from featx.serve.process import begin_log, process

    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port, settings.timeout))
        port = int(listener.getsockname()[1])
        running = Running(settings.url(port), _flight(plan, stack) if settings.flight else None)
        begin_log(settings.quiet)

        def say() -> None:
            announce(running)

        if settings.server == "granian":
            from featx.serve.granian import run_granian

            listener.close()  # it makes its own
            run_granian(plan, port, say)
        elif settings.workers > 1:
            from featx.serve.workers import run_workers

            run_workers(plan, listener, say)
        else:
            process(application(plan), settings, say).run(sockets=[listener])


def check(settings: Settings) -> None:
    """Raise UsageError for settings that would open the server to strangers, or make no sense."""
    if settings.token is None and not settings.loopback:
        raise UsageError(
            f"{settings.host} can be reached from elsewhere, and there is no token",
            "give --token-file FILE or FEATX_TOKEN, or leave --host out to serve this machine only",
        )
    if settings.token == "":
        raise UsageError("the token is empty, so that anybody has it", "give one, or None to serve this machine only")
    for name, least in (("workers", 1), ("max_body", 1), ("max_keys", 1), ("max_pixels", 1)):
        if getattr(settings, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(settings, name)}", f"give at least {least}")
    for name in ("timeout", "drain"):
        if not 0 <= getattr(settings, name) < 1e6 or (name == "timeout" and settings.timeout == 0):
            raise UsageError(f"--{name} is {getattr(settings, name):g}", "give seconds")
    for port in (settings.port, settings.flight_port):
        if not 0 <= port < 65536:
            raise UsageError(f"{port} is no port", "ports are 0 (any that is free) to 65535")


def _flight(plan: Plan, stack: ExitStack) -> str:
    """Serve the stores by Flight, too, from this process. Returns where."""
    from featx.serve.flight import serve_flight

    service: Any = serve_flight(plan.settings, plan.mounts())
    stack.callback(service.close, plan.settings.drain)
    return str(service.location)
