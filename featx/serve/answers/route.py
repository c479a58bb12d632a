"""POST /v1/answer and GET /v1/models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from featx.serve.answers import uploads
from featx.serve.answers.contract import paths
from featx.serve.answers.models import Models, ModelSpec
from featx.serve.answers.service import KnownPictures, Limits, Service
from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.problems import JSON, Problem
from featx.serve.settings import Settings

T = TypeVar("T")

SENT = 4  # bodies of the largest size that may be in memory at once
AT_ONCE = 512  # requests under way


class Answers:
    """The routes around a service: limits on what comes in, time, and clients that go away."""

    def __init__(self, service: Service, max_body: int, timeout: float) -> None:
        self.service, self.max_body, self.timeout = service, max_body, timeout
        self.space = uploads.Space(SENT * max_body)
        self.under_way = 0

    async def answer(self, request: Request) -> Response:
        """POST /v1/answer."""
        kind, limit = uploads.announced(request, self.max_body)
        if self.under_way >= AT_ONCE:
            raise Problem(503, "busy", "too many ask at once", "ask again soon", {"retry-after": "1"})
        self.under_way += 1
        try:
            with self.space.take(limit if kind.startswith("multipart") else 0):
                async with asyncio.timeout(self.timeout):
                    return await self._answer(request, kind, limit)
        except TimeoutError:
            raise Problem(
                503, "timeout", f"that took more than {self.timeout:g} seconds",
                "ask again: what was extracted meanwhile is kept", {"retry-after": "1"},
            ) from None  # fmt: skip
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            self.under_way -= 1

    async def _answer(self, request: Request, kind: str, limit: int) -> Response:
        asked = await uploads.read(request, kind, limit)
        found = await unless_gone(request, self.service.answer(asked))
        return _json(found)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return _json({"models": await asyncio.to_thread(self.service.about)})


def answers_extension(
    settings: Settings,
    mounts: Mounts,
    models: Sequence[ModelSpec] = (),
    pictures: Mapping[str, KnownPictures] | None = None,
    *,
    device: str = "cpu",
    extractor: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Extension:
    """What the server plugs in. models: those that answer; without any, the routes say so.

    pictures: of each store that has them, for keys without a record. device: where the models compute. extractor:
    options of what extracts pictures, in place of those that a model states: ``{"weights": FILE}``. limits: by default
    those of ``Limits``, with the settings' ``max_pixels``.

    Raises UsageError, WeightsError for models that are not there. None is loaded.
    """
    chosen = limits or Limits(pixels=settings.max_pixels)
    service = Service(Models(models, device, extractor), mounts, pictures or {}, chosen, write=settings.write)
    answers = Answers(service, settings.max_body, settings.timeout)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(service.close, settings.drain)

    routes = [
        Route("/v1/answer", answers.answer, methods=["POST"]),
        Route("/v1/models", answers.models, methods=["GET"]),
    ]
    return Extension(routes, lifespan, paths=paths(), figures=service.figures)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away. Raises ClientDisconnect then."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False).encode(), media_type=JSON)
