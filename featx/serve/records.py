"""One record: the stored bytes as they lie, or in a form for people and tools."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote_to_bytes

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from featx.codec import CHECKSUM, HEADER
from featx.errors import StoreDamaged
from featx.serve.entity import headers_of, send_entity
from featx.serve.forms import FORMS, RECORD, chosen_form, written
from featx.serve.mounted import Mounted, Mounts
from featx.serve.problems import Problem, unknown_store
from featx.serve.spans import Bytes, Spans

AS_STORED = ((b"content-type", RECORD.encode()), (b"cache-control", b"no-cache"), (b"vary", b"accept"))


class Records:
    """GET and HEAD of ``/v1/stores/{store}/records/{key}``."""

    def __init__(self, mounts: Mounts) -> None:
        self._stores = mounts.stores

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = scope["path_params"]
        mounted = self._stores.get(given["store"])
        if mounted is None:
            raise unknown_store(given["store"])
        key, query = _key(scope, given["key"]), scope["query_string"]
        spans, stored = find(mounted, key)
        asked = headers_of(scope)
        options = parse_qs(query.decode("latin-1")) if query else {}
        accept = asked.pop(b"accept", None)
        form = "record"
        if accept is not None or options:
            form = chosen_form(options.get("as", [None])[-1], None if accept is None else accept.decode("latin-1"))
        (checksum,) = CHECKSUM.unpack_from(stored, HEADER.size)
        tag = b'"%016x"' % checksum
        if form == "record":
            return await send_entity(scope, send, asked, stored, tag, (*AS_STORED, *spans.headers))
        body = await run_in_threadpool(_written, spans, stored, key, form, options)
        kind = (b"content-type", FORMS[form].encode())
        tag = tag[:-1] + b"-" + form.encode() + b'"'
        return await send_entity(scope, send, asked, body, tag, (kind, *AS_STORED[1:], *spans.headers))


def _written(spans: Spans, stored: Bytes, key: str, form: str, options: dict[str, list[str]]) -> bytes:
    reader = spans.reader
    fields = [name for text in options.get("fields", ()) for name in text.split(",")] or None
    if fields is None and options.get("features", ["0"])[-1] == "1":
        fields = list(reader.schema.names)
    return written(stored, key, reader.schema, reader.labels, form, fields)


def find(mounted: Mounted, key: str) -> tuple[Spans, Bytes]:
    """The stored bytes of ``key``, and whose they are. Raises Problem for one that is not there, StoreDamaged.

    What is damaged may be so because the store was replaced a moment ago: the files are looked at again.
    """
    spans = mounted.spans
    try:
        stored = spans.find(key)
    except (StoreDamaged, OSError):
        if not mounted.again(spans):
            raise
        spans, stored = mounted.spans, mounted.spans.find(key)
    if stored is None:
        raise absent(spans, key)
    return spans, stored


def absent(spans: Spans, key: str) -> Problem:
    """There is no record of that key: it is unknown, or was refused. The answer says in which store."""
    headers = {name.decode(): value.decode() for name, value in spans.headers}
    refusal = spans.refusals.get(key)
    if refusal is not None:
        message = f"{key[:200]!r} is not in the store: it was refused ({refusal.reason}: {refusal.message})"
        return Problem(404, "refused", message, "mend the picture and extract again with --retry-refused", headers)
    message = f"{key[:200]!r} is not among the {len(spans.reader)} records of the store"
    hint = "`store.keys()`, and .../keys of the server, list what there is"
    return Problem(404, "not_found", message, hint, headers)


def _key(scope: Scope, decoded: str) -> str:
    """The key in the address; ``decoded`` is what the server made of it. Raises Problem for what is no UTF-8."""
    if "\ufffd" not in decoded:
        return decoded
    try:
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise Problem(
            400, "bad_request", "the key in the address is not UTF-8", "percent-encode its UTF-8 bytes"
        ) from None
    return decoded
