"""The OpenAPI document: every route, what it takes and with what statuses it answers. A test holds it to that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featx import __version__
from featx.serve.extension import Extension
from featx.serve.forms import FORMS
from featx.serve.listing import LARGEST_PAGE, PAGE
from featx.serve.problems import JSON
from featx.serve.settings import Settings
from featx.store.remote.framing import MEDIA_TYPE

Schema = Mapping[str, Any]
_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_STORE = {"name": "store", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}}
_KEY = {
    "name": "key", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1},
    "description": "The picture's key, its UTF-8 percent-encoded, slashes too.",
}  # fmt: skip
_PROBLEMS = {
    400: "malformed", 401: "the token is missing or wrong", 403: "a page of another host asks",
    404: "there is no such thing",
    405: "not that method", 406: "none of the accepted types", 408: "too slow", 412: "If-Match names another record",
    413: "too much at a time", 415: "not JSON", 416: "not within the bytes, or several ranges",
    421: "asked under a name that is not this machine's", 500: "damaged, or a mistake of the server",
    503: "not now; Retry-After says when",
}  # fmt: skip
_ANYWHERE = (401, 405, 421, 503)


def problem_responses(*statuses: int) -> dict[str, Any]:
    """The answers ``{"error": {"code", "message", "hint"}}`` with those statuses, and the ones that any route has."""
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": _PROBLEMS[status].capitalize() + ".", "content": content}
        for status in sorted({*statuses, *_ANYWHERE})
    }


def document(settings: Settings, extensions: Sequence[Extension] = ()) -> dict[str, Any]:
    """The whole of it."""
    paths, schemas = _paths(settings), _schemas()
    for extension in extensions:
        paths |= {path: _guarded(item) for path, item in extension.paths.items()}
        schemas |= extension.schemas
    components: dict[str, Any] = {"schemas": schemas}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "featx", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Region features of pictures, as they are stored. docs/serving.md and FORMAT.md say more.",
        },
        "paths": paths,
        "components": components,
    }  # fmt: skip
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _guarded(item: Mapping[str, Any]) -> dict[str, Any]:
    """The operations of a path, with the answers that any route has."""
    found = dict(item)
    for method, operation in item.items():
        if isinstance(operation, Mapping) and "responses" in operation:
            found[method] = {**operation, "responses": {**problem_responses(), **operation["responses"]}}
    return found


def openapi_route(settings: Settings, extensions: Sequence[Extension]) -> Route:
    """``/openapi.json``."""
    body = json.dumps(document(settings, extensions), indent=1).encode()

    async def openapi(request: Request) -> Response:
        return Response(body, media_type=JSON, headers={"cache-control": "no-cache"})

    return Route("/openapi.json", openapi)


def _paths(settings: Settings) -> dict[str, Any]:
    front = "/v1/stores/{store}"
    return {
        "/healthz": _get("Whether the process lives.", _ref("Health"), open=True),
        "/readyz": _get(
            "Whether it can answer for all of its stores.", _ref("Ready"), open=True, also={503: _ref("Ready")}
        ),
        "/metrics": _get("Requests, bytes, times, and the state of every store, for Prometheus.", _TEXT, "text/plain"),
        "/openapi.json": _get("This document.", {"type": "object"}, open=True),
        "/v1/stores": _get("The stores that are served.", _ref("Stores")),
        front: _get("The manifest of a store, as in its manifest.json.", {"type": "object"}, JSON, _STORE, *_CONDITIONS,
                    statuses=(404, 412, 416), tagged=True),
        f"{front}/parts": _get("The part.json of every finished part.", _ref("Parts"), JSON, _STORE, statuses=(404,)),
        f"{front}/failures": _get(
            "Pictures that were refused, from number `after` on.", _ref("Failures"), JSON, _STORE,
            _query("after", _WHOLE), _limit(), statuses=(400, 404),
        ),
        f"{front}/keys": _get(
            "Keys in the order of their bytes, or of the source list. `after` is the `next` of the page before, or in "
            "the order of bytes any key. A search looks at 50,000 keys at most; where `next` is not null there may be "
            "more behind it.", _ref("Keys"), JSON, _STORE,
            _query("after", _TEXT), _limit(), _query("order", {"type": "string", "enum": ["key", "source"]}),
            _query("prefix", _TEXT), _query("search", _TEXT), statuses=(400, 404),
        ),
        f"{front}/records": {"post": _batch(settings)},
        f"{front}/records/{{key}}": {"get": _record("One record."), "head": _record("Its headers.", body=False)},
    }  # fmt: skip


def _get(
    summary: str, schema: Schema, media: str = JSON, *parameters: Schema, statuses: Sequence[int] = (),
    open: bool = False, also: Mapping[int, Schema] | None = None, tagged: bool = False,
) -> dict[str, Any]:  # fmt: skip
    responses = {"200": {"description": "It.", "content": {media: {"schema": schema}}}, **problem_responses(*statuses)}
    if tagged:
        responses |= {"206": {"description": "A part of it.", "content": {media: {}}}, "304": _same()}
    for status, other in (also or {}).items():
        responses[str(status)] = {"description": _PROBLEMS[status], "content": {media: {"schema": other}}}
    found: dict[str, Any] = {"summary": summary, "parameters": list(parameters), "responses": responses}
    return {"get": found | ({"security": []} if open else {})}


def _same() -> dict[str, Any]:
    return {"description": "It is what If-None-Match names."}


def _record(summary: str, body: bool = True) -> dict[str, Any]:
    content: dict[str, Any] = {media: {} for media in FORMS.values()} if body else {}
    headers = {"ETag": {"schema": _TEXT, "description": "The record's checksum."}}
    whole = {"description": "The record.", "headers": headers, **({"content": content} if body else {})}
    responses = {"200": whole, "304": _same(), **problem_responses(400, 404, 406, 412, 416, 500)}
    if body:
        responses["206"] = {"description": "A part of it.", "headers": headers, "content": content}
    else:
        responses = {status: {k: v for k, v in said.items() if k != "content"} for status, said in responses.items()}
    return {
        "summary": summary,
        "description": "The stored bytes (FORMAT.md), unless another form is asked for.",
        "parameters": [
            _STORE, _KEY, _query("as", {"type": "string", "enum": list(FORMS)}), _query("fields", _TEXT),
            _query("features", {"type": "string", "enum": ["0", "1"]}), *_CONDITIONS,
        ],
        "responses": responses,
    }  # fmt: skip


def _batch(settings: Settings) -> dict[str, Any]:
    asked = {
        "type": "object", "required": ["keys"],
        "properties": {
            "keys": {"type": "array", "items": _TEXT, "maxItems": settings.max_keys},
            "only": {"type": ["string", "null"], "enum": ["headers", None]},
        },
    }  # fmt: skip
    return {
        "summary": "Many records: a frame for each key, in the order asked.",
        "description": "With `only: headers` a frame holds the first 48 bytes. docs/serving.md has the frames.",
        "parameters": [_STORE],
        "requestBody": {"required": True, "content": {JSON: {"schema": asked}}},
        "responses": {
            "200": {"description": "The frames.", "content": {MEDIA_TYPE: {}}},
            **problem_responses(400, 403, 404, 413, 415),
        },
    }


def _query(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _limit() -> dict[str, Any]:
    return _query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE})


_CONDITIONS = [
    {"name": name, "in": "header", "required": False, "schema": _TEXT}
    for name in ("If-None-Match", "If-Match", "Range", "If-Range")
]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _rows(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _schemas() -> dict[str, Any]:
    store = _object(name=_TEXT, available={"type": "boolean"})
    store["properties"] |= {
        "records": _WHOLE, "refused": {"type": ["integer", "null"]}, "complete": {"type": "boolean"},
        "digest": {"type": ["string", "null"]}, "extractor": {"type": ["string", "null"]},
        "profile": {"type": ["string", "null"]}, "boxes": _TEXT, "rows": {"type": ["integer", "null"]},
        "features": _object(dtype=_TEXT, dim=_WHOLE), "pictures": {"type": "boolean"},
    }  # fmt: skip
    failure = _object(key=_TEXT, ordinal=_WHOLE, source=_TEXT, reason=_TEXT, message=_TEXT)
    return {
        "Problem": _object(error=_object(code=_TEXT, message=_TEXT, hint=_TEXT)),
        "Health": _object(status=_TEXT),
        "Ready": _object(ready={"type": "boolean"}, reasons=_rows(_TEXT), notes=_rows(_TEXT)),
        "Stores": _object(stores=_rows(store)),
        "Parts": _object(parts=_rows({"type": "object"})),
        "Failures": _object(failures=_rows(failure), next={"type": ["integer", "null"]}),
        "Keys": _object(keys=_rows(_TEXT), next={"type": ["string", "integer", "null"]}),
    }
