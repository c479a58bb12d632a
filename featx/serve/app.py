"""The application: all routes, and what stands before them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from featx.errors import FeatxError
from featx.serve.batches import Batches
from featx.serve.extension import Extension
from featx.serve.guard import Guard
from featx.serve.health import health_routes
from featx.serve.listing import listing_routes
from featx.serve.metrics import Counts, Metered, metrics_route
from featx.serve.mounted import Mounts
from featx.serve.openapi import openapi_route
from featx.serve.problems import Problem, answer_problem
from featx.serve.records import Records
from featx.serve.settings import Settings


class Key(Convertor[str]):
    """The rest of an address, whatever it holds: ``path`` would stop before a line break."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("key", Key())
RECORDS = "/v1/stores/{store}/records"


def make_app(settings: Settings, mounts: Mounts, extensions: Sequence[Extension] = ()) -> Starlette:
    """The server as an ASGI application. ``state.settings`` and ``state.mounts`` are what it was made of."""
    counts = Counts()
    routes: list[BaseRoute] = [
        Route(f"{RECORDS}/{{key:key}}", Records(mounts), methods=["GET"]),
        Route(RECORDS, Batches(mounts, settings.max_keys), methods=["POST"]),
        *listing_routes(mounts, settings.max_keys),
        *health_routes(mounts, [extension.ready for extension in extensions], named=settings.token is None),
        metrics_route(counts, mounts, [extension.figures for extension in extensions]),
        openapi_route(settings, extensions),
        *(route for extension in extensions for route in extension.routes),
    ]
    paths = {route.endpoint: re.sub(r":\w+}", "}", route.path) for route in routes if isinstance(route, Route)}
    handlers = {
        Problem: answer_problem,
        FeatxError: answer_problem,
        HTTPException: _answer_router,
        ClientDisconnect: _answer_nobody,
    }
    app = Starlette(
        routes=routes,
        lifespan=_lifespan(mounts, extensions),
        middleware=[
            Middleware(Metered, counts=counts, routes=paths),
            Middleware(Guard, settings=settings, open=frozenset().union(*(e.open for e in extensions))),
        ],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    app.state.settings, app.state.mounts, app.state.counts = settings, mounts, counts
    return app


def _lifespan(
    mounts: Mounts, extensions: Sequence[Extension]
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        for mounted in mounts.stores.values():
            mounted.renew()  # now, and not when the first request waits for it
        async with AsyncExitStack() as stack:
            for extension in extensions:
                if extension.lifespan is not None:
                    await stack.enter_async_context(extension.lifespan(app))
            yield

    return lifespan


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # whoever asked went away while the body was read


async def _answer_router(request: Request, error: Exception) -> Response:
    """The router found no route, or none for that method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem(
            405, "method", f"{request.method} is not for this address", f"it knows {allowed}", error.headers
        ).response()
    if error.status_code == 404:
        return Problem(
            404, "no_route", "there is nothing at this address", "GET /openapi.json has all there is"
        ).response()
    return Problem(error.status_code, "bad_request", str(error.detail), "", error.headers).response()
