"""Many records in one answer: a frame for each key, in the order asked (``featx.store.remote.framing``).

What is missing, refused or damaged is said in its place, and fails nothing else. The length is known before the first
byte leaves; large pieces are parts of the mapped files and are not copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from featx.codec import HEADER_SIZE
from featx.errors import FeatxError, StoreDamaged, UsageError
from featx.serve.guard import limited
from featx.serve.mounted import Mounted, Mounts
from featx.serve.problems import Problem, log, unknown_store
from featx.serve.records import absent
from featx.serve.spans import Spans
from featx.store.remote.framing import DAMAGED, MEDIA_TYPE, MISSING, RECORD, REFUSED, Frame, framed, length_of, told

MAX_KEYS = "featx-max-keys"
PIECES = "featx.pieces"  # extension of the scope: a function that writes many buffers at once
SENT = "featx.sent"  # in the scope: bytes that were written so
SMALL = 64 << 10  # pieces up to here are put together: a call costs more than the copy
COPIED = 16 << 20  # bytes of them that may wait for a slow reader; more are put together as it takes them
LOOK = 32  # pieces between two looks whether somebody still takes them
KEY_ROOM = 4 << 10  # bytes that a key has in the body, on the average: all that may be asked for need not be taken in


class Batches:
    """POST to ``/v1/stores/{store}/records``."""

    def __init__(self, mounts: Mounts, max_keys: int) -> None:
        self._stores, self._most = mounts.stores, max_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["store"]
        mounted = self._stores.get(name)
        if mounted is None:
            raise unknown_store(name)
        request = Request(scope, limited(receive, self._most * KEY_ROOM + SMALL))
        data = await read_json(request)
        batch = Batch.of(mounted, asked_keys(data, self._most), data.get("only") == "headers")
        sizes = list(batch.sizes())
        length = length_of(sizes)
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % length), *batch.spans.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        write = scope.get("extensions", {}).get(PIECES)
        pieces = sends(framed(batch.frames()))
        if write is not None and batch.whole and sum(size for size in sizes if size <= SMALL) <= COPIED:
            write(list(pieces), length)
            scope[SENT] = length
        else:
            for number, piece in enumerate(pieces, 1):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if number % LOOK == 0 and await request.is_disconnected():
                    return
        await send({"type": "http.response.body"})


@dataclass(frozen=True)
class Batch:
    """What is sent for each key, and out of which store. A number stands for a record that is still to be made."""

    spans: Spans
    keys: Sequence[str]
    found: Sequence[Frame | int]
    most: int | None  # bytes that are sent of each record; None: all

    @classmethod
    def of(cls, mounted: Mounted, keys: Sequence[str], headers: bool) -> Batch:
        """The records of ``keys``, or the headers of them only. Raises StoreError while there is no store."""
        spans = mounted.spans
        found = spans.look(keys)
        if any(isinstance(one, StoreDamaged) for one in found) and mounted.again(spans):  # it was replaced a moment ago
            spans = mounted.spans
            found = spans.look(keys)
        most = HEADER_SIZE if headers else None
        frames = [
            one if isinstance(one, int)
            else Frame(RECORD, one[:most]) if isinstance(one, bytes | memoryview)
            else _without(spans, key, one)
            for key, one in zip(keys, found, strict=True)
        ]  # fmt: skip
        return cls(spans, keys, frames, most)

    @property
    def whole(self) -> bool:
        """Whether all is at hand: parts of mapped files, and what is small."""
        return not any(isinstance(frame, int) for frame in self.found)

    def sizes(self) -> Iterator[int]:
        """Bytes of each frame, without its head."""
        for frame in self.found:
            yield min(frame, self.most or frame) if isinstance(frame, int) else len(frame.body)

    def frames(self) -> Iterator[Frame]:
        """The frames; a record is put together when it is its turn."""
        for key, frame in zip(self.keys, self.found, strict=True):
            yield self._made(key, frame) if isinstance(frame, int) else frame

    def _made(self, key: str, size: int) -> Frame:
        stored = self.spans.find(key)
        if stored is None or len(stored) != size:
            raise StoreDamaged(f"record {key!r} is not what it was a moment ago", "run `featx verify` on the store")
        return Frame(RECORD, stored[: self.most])


async def read_json(request: Request) -> Any:
    """The JSON that was sent. Raises Problem."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "not_json", f"the body is {kind[:60]!r}", "send application/json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Problem(400, "not_json", "the body is not JSON", 'send {"keys": ["...", ...]}') from None


def asked_keys(data: Any, most: int) -> list[str]:
    """The keys in the body of a request. Raises Problem."""
    keys = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Problem(400, "bad_request", "the body holds no list of keys", 'send {"keys": ["...", ...]}')
    if data.get("only") not in (None, "headers"):
        raise Problem(400, "bad_request", "only is neither headers nor absent", "leave it out for whole records")
    if len(keys) > most:
        hint = f"ask for at most {most} at a time"
        raise Problem(413, "too_many_keys", f"{len(keys)} keys are asked for at once", hint, {MAX_KEYS: str(most)})
    return keys


def _without(spans: Spans, key: str, error: FeatxError | None) -> Frame:
    if isinstance(error, UsageError):
        return told(MISSING, key, error.message, error.hint)
    if error is not None:
        log.error("%s: %s", type(error).__name__, error)
        return told(DAMAGED, key, "what is stored under it is damaged", "whoever runs the server finds more in its log")
    problem = absent(spans, key)
    return told(REFUSED if problem.code == "refused" else MISSING, key, problem.message, problem.hint)


def sends(pieces: Iterable[Any]) -> Iterator[Any]:
    """The pieces, small ones put together."""
    waiting: list[Any] = []
    size = 0
    for piece in pieces:
        if len(piece) > SMALL:
            if waiting:
                yield b"".join(waiting)
                waiting, size = [], 0
            yield piece
            continue
        waiting.append(piece)
        size += len(piece)
        if size > SMALL:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
