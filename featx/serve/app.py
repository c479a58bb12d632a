"""The application: all routes, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette

from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.problems import answer_problem
from featx.serve.settings import Settings


def make_app(settings: Settings, mounts: Mounts, extensions: Sequence[Extension] = ()) -> Starlette:
    """The server as an ASGI application. ``state.settings`` and ``state.mounts`` are what it was made of."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for extension in extensions:
                if extension.lifespan is not None:
                    await stack.enter_async_context(extension.lifespan(app))
            yield

    routes = [route for extension in extensions for route in extension.routes]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={Exception: answer_problem})
    app.state.settings, app.state.mounts = settings, mounts
    return app
