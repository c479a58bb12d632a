"""Whether the process lives (``/healthz``), and whether it can answer for its stores (``/readyz``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featx.errors import FeatxError
from featx.serve.mounted import Mounts
from featx.serve.problems import JSON

_FRESH = {"cache-control": "no-store"}


def health_routes(mounts: Mounts, ready: Sequence[Callable[[], str | None]], named: bool = True) -> list[Route]:
    """The two routes. ready: of each extension None, or why it cannot answer yet. named: whether stores are named,
    which strangers are not told."""

    async def healthz(request: Request) -> Response:
        return Response(json.dumps({"status": "ok"}), media_type=JSON, headers=_FRESH)

    async def readyz(request: Request) -> Response:
        reasons = [f"{said(name)} cannot be opened" for name in mounts if not _opens(mounts, name)]
        reasons += [reason for ask in ready if (reason := ask()) is not None]
        notes = [
            f"{said(name)} was replaced by one that cannot be opened; the one before is served"
            for name in _behind(mounts)
        ]
        body = {"ready": not reasons, "reasons": reasons, "notes": notes}
        return Response(json.dumps(body), 503 if reasons else 200, _FRESH, JSON)

    def said(name: str) -> str:
        return f"the store {name}" if named else "a store"

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _opens(mounts: Mounts, name: str) -> bool:
    try:
        return mounts[name] is not None
    except FeatxError:
        return False


def _behind(mounts: Mounts) -> list[str]:
    """Stores that are served although they are not what lies there now."""
    return [name for name, mounted in mounts.stores.items() if mounted.trouble is not None and _opens(mounts, name)]
