"""What went wrong with a request, as a status and ``{"error": {"code", "message", "hint"}}``.

Nothing of the server's insides is in it: no path, no traceback. What those who run it must know goes to the log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from featx.errors import (
    FeatxError,
    KeyNotFound,
    MissingDependency,
    PictureRefused,
    StoreDamaged,
    StoreError,
    UsageError,
)

log = logging.getLogger("featx.serve")
JSON = "application/json"


class Problem(Exception):
    """A request that is answered with an error.

    status: of HTTP. code: a stable word for programs. message, hint: for people: what was found, and what to do.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The JSON that is sent."""
        return json.dumps({"error": {"code": self.code, "message": self.message, "hint": self.hint}}).encode()

    def response(self) -> Response:
        """The answer."""
        return Response(self.body, self.status, self.headers, JSON)


def unknown_store(name: str) -> Problem:
    """There is no store of that name."""
    return Problem(404, "no_such_store", f"no store {name[:200]!r} is served here", "GET /v1/stores lists them")


def problem_of(error: Exception) -> Problem:
    """What is said of an error of featx; of any other only that there was one."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, KeyNotFound):
        return Problem(404, "not_found", error.message, error.hint)
    if isinstance(error, PictureRefused):
        return Problem(422, error.reason, error.message, error.hint)
    if isinstance(error, UsageError):
        return Problem(400, "bad_request", error.message, error.hint)
    if isinstance(error, FeatxError):
        log.error("%s: %s", type(error).__name__, error)
    if isinstance(error, StoreDamaged):
        return Problem(500, "damaged", "what is stored is damaged", "whoever runs the server finds more in its log")
    if isinstance(error, StoreError):
        return Problem(503, "unavailable", "the store cannot be read now", "ask again", {"retry-after": "1"})
    if isinstance(error, MissingDependency):
        return Problem(501, "not_installed", "the server lacks a package for this", "its log says which")
    return Problem(500, "internal", "the server made a mistake", "its log says which; please report it")


def answer_of(scope: Scope, error: Exception) -> Response:
    """The answer to a request that ended in ``error``; what nobody foresaw goes to the log with its traceback."""
    if not isinstance(error, Problem | FeatxError):
        log.error("%s %r", scope["method"], scope["path"], exc_info=error)
    return problem_of(error).response()


async def answer_problem(request: Request, error: Exception) -> Response:
    """The handler of exceptions of the application."""
    return answer_of(request.scope, error)
