"""The original pictures of a store, by key: for the page, and for questions about pictures that have no record.

A key is looked up in an index that is made by listing the folder with the store's key rule, as the extraction did. No
path is ever made from a key. What the index names is opened component by component below the folder, so that a link
that leads out of it, also one that was put there later, is not followed.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import xxhash
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from featx.codec import store_key
from featx.decode.header import MEDIA_TYPES, START, media_type
from featx.errors import FeatxError, PictureRefused, UsageError
from featx.images import KEY_RULES, Source, list_pictures
from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.problems import Problem, log, unknown_store
from featx.serve.settings import Settings
from featx.store import Manifest

LARGEST = 64 << 20  # bytes of a picture that is sent
BLOCK = 256 << 10
EVERY = 30.0  # seconds between two listings, at least
_SHARE = 20  # listing may take one part in so many of the time


class Pictures:
    """The pictures below a folder, by the keys that a rule gives them. Listed when first asked for.

    Listed anew when a key is not known, but not often. Raises UsageError for what is no folder and for an unknown rule.
    """

    def __init__(self, folder: str | os.PathLike[str], key_rule: str = "stem") -> None:
        self.folder, self.key_rule = Path(folder).expanduser().absolute(), key_rule
        if not self.folder.is_dir():
            raise UsageError(f"there is no folder of pictures at {folder}", "check --pictures")
        if key_rule not in KEY_RULES:
            raise UsageError(f"key rule {key_rule!r} is unknown", f"known are {', '.join(KEY_RULES)}")
        self._lock = threading.Lock()
        self._index: dict[bytes, Source] = {}
        self._next = 0.0

    @classmethod
    def of(cls, folder: str | os.PathLike[str], manifest: Manifest) -> Pictures:
        """With the key rule by which the store was made."""
        return cls(folder, str(manifest.provenance.get("key_rule", "stem")))

    def list(self) -> int:
        """List the folder; how many pictures there are. Raises UsageError: there are none, or two have one key."""
        began = time.monotonic()
        found = list_pictures(str(self.folder), key_rule=self.key_rule)
        self._index = {store_key(source.key): source for source in found}
        now = time.monotonic()
        self._next = now + max(EVERY, _SHARE * (now - began))
        return len(found)

    def find(self, key: str) -> tuple[bytes, int] | None:
        """The file of a picture and its place in the list, None when there is none of that key.

        Raises PictureRefused: ``too-large``, ``unreadable``.
        """
        source = self.source(key)
        if source is None:
            return None
        with self.opened(source) as file:
            return file.read(LARGEST), source.ordinal

    def source(self, key: str) -> Source | None:
        """Where the picture of a key is, None when there is none."""
        try:
            wanted = store_key(key)
        except UsageError:
            return None
        if (
            wanted not in self._index
            and time.monotonic() >= self._next
            and self._lock.acquire(blocking=not self._index)
        ):
            try:
                if time.monotonic() >= self._next:
                    self.list()
            except FeatxError as error:
                self._next = time.monotonic() + EVERY
                log.warning("pictures cannot be listed: %s", error)
            finally:
                self._lock.release()
        return self._index.get(wanted)

    def opened(self, source: Source) -> BinaryIO:
        """The file of a picture. Raises PictureRefused: missing, too-large, unreadable (or outside the folder)."""
        try:
            file = _open_below(self.folder.resolve(), Path(source.location).resolve())
        except FileNotFoundError:
            raise PictureRefused("missing", "the picture is not there any more", "") from None
        except (OSError, ValueError) as error:
            log.warning("%s is not served: %s", source.location, error)
            raise PictureRefused("unreadable", "the picture cannot be read", "the server's log says why") from None
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            file.close()
            raise PictureRefused("too-large", f"the picture has {found.st_size} bytes, the limit is {LARGEST}", "")
        return file


def _open_below(folder: Path, path: Path) -> BinaryIO:
    """Open a file below a folder, both without links. Raises ValueError outside it, OSError for a link on the way."""
    *folders, name = path.relative_to(folder).parts
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for one in folders:
            below = os.open(one, flags | os.O_DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = below
        return os.fdopen(os.open(name, flags | os.O_NONBLOCK, dir_fd=handle), "rb")
    finally:
        os.close(handle)


class _Route:
    def __init__(self, mounts: Mounts, pictures: Mapping[str, Pictures]) -> None:
        self.mounts, self.pictures = mounts, pictures

    async def get(self, request: Request) -> Response:
        store, key = request.path_params["store"], request.path_params["key"]
        if store not in self.mounts.stores:
            raise unknown_store(store)
        if request.scope["path"].endswith("\n"):  # which the router takes off
            key += "\n"
        found = await asyncio.to_thread(self._opened, store, key)
        if found is None:
            raise Problem(404, "not_found", f"there is no picture of {key[:200]!r} here", "")
        file, size, kind, etag = found
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        if etag in [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]:
            file.close()
            return Response(status_code=304, headers=headers)
        headers["content-length"] = str(size)
        if request.method == "HEAD":
            file.close()
            return Response(headers=headers, media_type=kind)
        return StreamingResponse(_blocks(file, size), headers=headers, media_type=kind)

    def _opened(self, store: str, key: str) -> tuple[BinaryIO, int, str, str] | None:
        """An open file, its size, what it is and its ETag. Raises Problem for one that is no picture."""
        pictures = self.pictures.get(store)
        source = None if pictures is None else pictures.source(key)
        if pictures is None or source is None:
            return None
        try:
            file = pictures.opened(source)
        except PictureRefused as refusal:
            if refusal.reason == "missing":
                return None
            raise Problem(403, refusal.reason, refusal.message, refusal.hint) from None
        start, about = file.read(START), os.fstat(file.fileno())
        file.seek(0)
        kind = media_type(start)
        if kind is None:
            file.close()
            raise Problem(403, "not-an-image", f"what lies there under {key[:200]!r} is no picture", "")
        facts = f"{about.st_ino} {about.st_mtime_ns} {about.st_size}"
        return file, about.st_size, kind, f'"{xxhash.xxh3_64_hexdigest(facts.encode())}"'


async def _blocks(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """So many bytes of a file; one that became shorter ends the answer early, which its length tells."""
    try:
        while size and (block := await asyncio.to_thread(file.read, min(BLOCK, size))):
            size -= len(block)
            yield block
    finally:
        file.close()


def pictures_extension(settings: Settings, mounts: Mounts, pictures: Mapping[str, Pictures]) -> Extension:
    """What the server plugs in: GET and HEAD /v1/stores/{store}/pictures/{key}, for stores by name."""
    for name in pictures:
        if name not in mounts.stores:
            raise UsageError(
                f"--pictures names the store {name!r}, which is not served", f"there are {', '.join(mounts)}"
            )
        mounts.stores[name].pictures = True
    route = Route("/v1/stores/{store}/pictures/{key:path}", _Route(mounts, pictures).get, methods=["GET", "HEAD"])
    return Extension([route], paths=_PATHS)


def _text(name: str, where: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string", **more}}


_ERROR = {"description": "An error", "content": {"application/json": {"schema": {"type": "object"}}}}
_GET: dict[str, Any] = {
    "parameters": [_text("store", "path"), _text("key", "path"), _text("If-None-Match", "header")],
    "responses": {
        "200": {
            "description": "The file as it lies, if it is one of these",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
        },
        "304": {"description": "It is the one that the client has"},
        "403": {**_ERROR, "description": "It is too large, no picture, or outside the folder"},
        "404": {**_ERROR, "description": "No such store, or no picture of that key"},
    },
}
_PATHS = {
    "/v1/stores/{store}/pictures/{key}": {
        "get": {"summary": "The picture behind a key", "operationId": "picture", **_GET},
        "head": {"summary": "The same without its bytes", "operationId": "picture_head", **_GET},
    }
}
