"""The body of a question, read up to its limit: JSON, or a form with a picture."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from featx.serve.answers.asked import Asked, of_form, of_json
from featx.serve.problems import Problem

MOST_JSON = 64 << 10  # bytes; a question and a key are short
MOST_FIELDS = 16


class Space:
    """Bytes that bodies may take in memory, all together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Room for a body as long as it is needed. Raises Problem (503) when there is none."""
        if self.taken and self.taken + size > self.limit:
            raise Problem(503, "busy", "too many pictures are being sent", "try again soon", {"retry-after": "1"})
        self.taken += size
        try:
            yield
        finally:
            self.taken -= size


def announced(request: Request, most: int) -> tuple[str, int]:
    """(media type, bytes that the body may have), by the headers. Raises Problem: 400, 413, 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "multipart/form-data"):
        raise Problem(
            415, "media_type", f"the body is {kind[:80] or 'of no stated type'}",
            "send application/json, or multipart/form-data with a picture",
        )  # fmt: skip
    limit = min(MOST_JSON, most) if kind == "application/json" else most
    stated = request.headers.get("content-length")
    if stated is None:
        return kind, limit
    if not (stated.isascii() and stated.isdigit()):
        raise Problem(400, "bad_request", "content-length is not a number")
    if len(stated) > 18 or int(stated) > limit:
        raise _too_large(limit)
    return kind, int(stated)


async def read(request: Request, kind: str, limit: int) -> Asked:
    """What is asked. Raises Problem: 400 for what cannot be read, 413 for more than ``limit`` bytes."""
    if kind == "application/json":
        return of_json(b"".join([chunk async for chunk in _limited(request, limit)]))
    parser = MultiPartParser(
        request.headers, _limited(request, limit), max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_JSON
    )
    parser.spool_max_size = limit + 1  # in memory, where there is room for it by `Space`
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "bad_request", f"the form cannot be read: {error.message}") from None
    try:
        return await _of_items(form.multi_items())
    finally:
        await form.close()


async def _of_items(items: list[tuple[str, UploadFile | str]]) -> Asked:
    fields: dict[str, str] = {}
    picture: bytes | None = None
    for name, value in items:
        if name in fields or (name == "picture" and picture is not None):
            raise Problem(400, "bad_request", f"{name[:40]!r} is given twice")
        if isinstance(value, str) == (name == "picture"):
            raise Problem(400, "bad_request", f"{name[:40]!r} is {'no file' if name == 'picture' else 'a file'}")
        if isinstance(value, str):
            fields[name] = value
        else:
            picture = await value.read()
    return of_form(fields, picture)


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


def _too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"the body has more than {limit} bytes", "send a smaller picture")
