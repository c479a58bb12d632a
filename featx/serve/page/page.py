"""``GET /``: the page, one file without outside parts, and headers that allow exactly what is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featx.serve.extension import Extension

_PATHS = {
    "/": {
        "get": {
            "operationId": "page",
            "summary": "The page: browse stores, see boxes, ask questions",
            "security": [],
            "responses": {
                "200": {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}},
                "304": {"description": "The page is still that of If-None-Match"},
            },
        }
    }
}


def page_extension() -> Extension:
    """The page at ``/``. It needs no token: it holds nothing of a store, and asks for the token itself."""
    return Extension(routes=[page_route()], paths=_PATHS, open=frozenset({"/"}))


def page_route() -> Route:
    """GET and HEAD of ``/``. The file is read once, now."""
    content = resources.files("featx.serve.page").joinpath("index.html").read_bytes()
    headers = page_headers(content)

    async def page(request: Request) -> Response:
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="text/html", headers=headers)

    return Route("/", page, methods=["GET"], name="page")


def page_headers(content: bytes) -> dict[str, str]:
    """What goes with a page: an ETag, and a policy under which only its own script and style run.

    Whatever else finds its way into the page (a key, a label, an answer) is not run even if it is taken for HTML. The
    page may fetch from its own server only, and nobody may frame it.
    """
    hashes = {tag: " ".join(_hashes(content, tag)) for tag in ("script", "style")}
    policy = [
        "default-src 'none'",
        f"script-src {hashes['script']}",
        f"style-src {hashes['style']}",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return {
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
        "content-security-policy": "; ".join(policy),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _hashes(content: bytes, tag: str) -> list[str]:
    """The sources that a policy names for the inline elements of one kind: ``'sha256-...'`` of what is in each."""
    inline = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), content, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline]
