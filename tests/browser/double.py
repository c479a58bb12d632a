"""A double of the server, to test the page: the same routes, answers that a test chooses, refusals on demand."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from featx.serve.page.page import page_route
from featx.store.reader import StoreReader

ANSWERS = [("red", 0.81), ("blue", 0.12), ("green", 0.04)]


def form(reader: StoreReader, key: str) -> dict[str, Any]:
    """A record as JSON: real rows of every field but the features, and their names."""
    record = reader[key]
    fields = {name: record.array(name)[: len(record)].tolist() for name in record.names() if name != "features"}
    names = {}
    for kind, field in (("objects", "object_ids"), ("attributes", "attribute_ids")):
        known = reader.labels.get(kind) or []
        names[kind] = [known[i] if i < len(known) else None for i in fields.get(field, [])]
    return {"key": key, "size": record.size, "rows": len(record.features), "count": len(record), "fields": fields,
            "names": names}  # fmt: skip


def problem(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> JSONResponse:
    error = {"code": "double", "message": message, "hint": hint}
    return JSONResponse({"error": error}, status, dict(headers or {}))


class Double:
    """The server. ``asked`` keeps what was asked of it; the attributes may be changed while it runs."""

    def __init__(
        self, stores: Mapping[str, StoreReader], pictures: Mapping[str, Callable[[str], bytes | None]],
        models: Sequence[Any],
    ) -> None:  # fmt: skip
        self.stores, self.pictures, self.models = dict(stores), dict(pictures), list(models)
        self.token: str | None = None
        self.busy = 0  # so many requests for records and answers are put off
        self.retry_after = "1"
        self.weights: list[float] | None = None
        self.upload: dict[str, Any] = {}  # the record of an uploaded picture
        self.asked: list[dict[str, Any]] = []
        self.seen: list[tuple[str, str]] = []  # method and URL of every request

    def app(self) -> Starlette:
        routes = [
            page_route(),
            Route("/v1/stores", self.list_stores),
            Route("/v1/models", lambda _: JSONResponse({"models": self.models})),
            Route("/v1/stores/{store}", self.manifest),
            Route("/v1/stores/{store}/keys", self.keys),
            Route("/v1/stores/{store}/failures", self.failures),
            Route("/v1/stores/{store}/records/{key:path}", self.record),
            Route("/v1/stores/{store}/pictures/{key:path}", self.picture),
            Route("/v1/answer", self.answer, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        app.add_middleware(BaseHTTPMiddleware, dispatch=self.guard)
        return app

    async def guard(self, request: Request, call: RequestResponseEndpoint) -> Response:
        self.seen.append((request.method, str(request.url)))
        if request.url.path == "/":
            return await call(request)
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "a token is needed", headers={"www-authenticate": "Bearer"})
        if self.busy > 0 and ("/records/" in request.url.path or request.url.path == "/v1/answer"):
            self.busy -= 1
            return problem(503, "the server is busy", "ask again", {"retry-after": self.retry_after})
        return await call(request)

    def list_stores(self, _: Request) -> Response:
        entries = [{"name": n, "records": len(s), "complete": True, "pictures": n in self.pictures}
                   for n, s in self.stores.items()]  # fmt: skip
        return JSONResponse({"stores": entries})

    def manifest(self, request: Request) -> Response:
        manifest = self.stores[request.path_params["store"]].manifest
        return Response(manifest.document(), media_type="application/json")

    def keys(self, request: Request) -> Response:
        query, reader = request.query_params, self.stores[request.path_params["store"]]
        found = [k for k in reader if query.get("search", "").lower() in k.lower() and k > query.get("after", "")]
        limit = int(query.get("limit", 100))
        return JSONResponse({"keys": found[:limit], "next": found[limit - 1] if len(found) > limit else None})

    def failures(self, request: Request) -> Response:
        found = self.stores[request.path_params["store"]].failures()
        entries = [{"key": r.key, "reason": r.reason, "message": r.message} for r in found]
        return JSONResponse({"failures": entries, "next": None})

    def record(self, request: Request) -> Response:
        reader, key = self.stores[request.path_params["store"]], asked_key(request)
        if key not in reader:
            return problem(404, f"{key!r} is not in the store", "browse the keys")
        if request.headers.get("accept") == "application/vnd.featx.record":
            return Response(reader.stored_bytes(key), media_type="application/vnd.featx.record")
        return JSONResponse(form(reader, key))

    def picture(self, request: Request) -> Response:
        find = self.pictures.get(request.path_params["store"])
        found = None if find is None else find(asked_key(request))
        if found is None:
            return problem(404, "there is no picture of this key", "look into the folder of pictures")
        return Response(found, media_type="image/png")

    async def answer(self, request: Request) -> Response:
        if request.headers["content-type"].startswith("application/json"):
            asked, record = json.loads(await request.body()), None
        else:
            async with request.form() as form:
                asked = {name: value for name, value in form.items() if isinstance(value, str)}
                picture = form["picture"]
                assert not isinstance(picture, str)
                asked["picture"] = await picture.read()
            record = self.upload
        self.asked.append(asked)
        answers = [{"answer": a, "score": s} for a, s in ANSWERS] if asked["question"] else []
        reply = {
            "answers": answers,
            "model": self.models[0]["name"],
            "weights": self.weights if asked.get("explain") and answers else None,
        }
        return JSONResponse(reply | ({"record": record} if record is not None else {}))


def asked_key(request: Request) -> str:
    return unquote(str(request.path_params["key"]))


class Running:
    """A double on a port of its own, in a thread; use it with ``with``."""

    def __init__(self, app: Any) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self) -> str:
        self.socket.listen(64)  # from now on a browser's connection waits until the server takes it
        self.thread.start()
        return self.url

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()
