"""What goes wrong over Arrow Flight: a code, a message and a hint, as JSON in the details of a Flight error.

Of all that a server may raise only Flight's own errors keep its tracebacks at home, so nothing else leaves one. What is
wrong with a request has the status UNKNOWN then, for Flight's errors have no other; the code in the details says more.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from featx.errors import FeatxError, MissingDependency, StoreDamaged, StoreError, UsageError

LONGEST = 600  # characters of a text; both travel in headers, which have room for 8 KiB
_ERRORS = {
    "bad_request": UsageError,
    "unknown_store": StoreError,
    "unknown_action": UsageError,
    "not_offered": UsageError,
    "unauthenticated": UsageError,
    "damaged": StoreDamaged,
}
_TRY_AGAIN = "if it stays, look at the log of the server"


class Fault(NamedTuple):
    """code: a stable word for programs. message, hint: for people."""

    code: str
    message: str
    hint: str = ""


def flight_library() -> Any:
    """The module ``pyarrow.flight``. Raises MissingDependency."""
    try:
        import pyarrow.flight
    except ModuleNotFoundError as error:
        raise MissingDependency(f"Arrow Flight needs the package {error.name}", "pip install 'featx[flight]'") from None
    return pyarrow.flight


def raised(fault: Fault) -> Exception:
    """The error of Flight that carries a fault to the client."""
    flight = flight_library()
    kind = {
        "unauthenticated": flight.FlightUnauthenticatedError,
        "unavailable": flight.FlightUnavailableError,
        "internal": flight.FlightInternalError,
        "damaged": flight.FlightInternalError,
    }.get(fault.code, flight.FlightServerError)
    code, message, hint = (text.encode(errors="backslashreplace").decode()[:LONGEST] for text in fault)
    made: Exception = kind(message, json.dumps({"code": code, "message": message, "hint": hint}).encode())
    return made


def fault_of(error: BaseException) -> Fault | None:
    """The fault that an error of Flight carries; None when it was not raised by a server of featx."""
    try:
        data = json.loads(getattr(error, "extra_info", b"") or b"")
        code, message, hint = data["code"], data["message"], data["hint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = all(isinstance(text, str) for text in (code, message, hint))
    return Fault(code, message, hint) if whole else None


def understood(error: BaseException, where: str) -> FeatxError:
    """What a reader of the store at ``where`` is told of an error of Arrow or Flight."""
    fault = fault_of(error)
    if fault is not None:
        kind = _ERRORS.get(fault.code, StoreError)
        return kind(f"{where}: {fault.message}", fault.hint or _TRY_AGAIN)
    return StoreError(f"{where} gave no answer that can be read: {said(error)}", "is it `featx serve --flight`?")


def said(error: BaseException) -> str:
    """What an error of Arrow or Flight says, without what gRPC and Arrow add to it."""
    fault = fault_of(error)
    if fault is not None:
        return fault.message
    text = str(error).partition(". gRPC client debug context")[0].partition(". Client context")[0]
    return text.rpartition(", with message: ")[2][:LONGEST]


def is_passing(error: BaseException) -> bool:
    """Whether the same may go well in a moment: the server is away, or was when it answered."""
    flight = flight_library()
    return isinstance(error, flight.FlightUnavailableError | flight.FlightTimedOutError)
