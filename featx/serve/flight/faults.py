"""Errors on their way to a client of Flight: nothing of the server's insides goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.serve.problems import log
from featx.store.remote.flight_faults import Fault, fault_of, raised

P = ParamSpec("P")
T = TypeVar("T")


class UnknownStore(UsageError):
    """A name under which nothing is served."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no store {name[:200]!r} is served here", "list_flights names those that are")


def told(error: Exception) -> Exception:
    """The error that a client gets for ``error``; what those who run the server must know is logged."""
    if fault_of(error) is not None:
        return error
    return raised(_fault(error))


def _fault(error: Exception) -> Fault:
    if isinstance(error, UsageError):
        code = "unknown_store" if isinstance(error, UnknownStore) else "bad_request"
        return Fault(code, error.message, error.hint)
    log.error("%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, FeatxError) else error)
    if isinstance(error, StoreDamaged):
        return Fault("damaged", "what is stored is damaged", "whoever runs the server finds more in its log")
    if isinstance(error, StoreError):
        return Fault("unavailable", "the store cannot be read now", "ask again")
    return Fault("internal", "the server made a mistake", "its log says which; please report it")


def telling(method: Callable[P, T]) -> Callable[P, T]:
    """A method of the server that lets nothing out but errors of Flight."""

    @wraps(method)
    def guarded(*args: P.args, **named: P.kwargs) -> T:
        try:
            return method(*args, **named)
        except Exception as error:
            raise told(error) from None

    return guarded


def telling_all(values: Iterator[Any]) -> Iterator[Any]:
    """The same for what comes one after another."""
    try:
        yield from values
    except Exception as error:
        raise told(error) from None
