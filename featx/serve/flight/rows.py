"""The rows of an answer: what a store holds for each key that was asked for, or why it holds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from unicodedata import normalize

from featx.codec import checksum, peek, text
from featx.errors import FeatxError, UsageError
from featx.serve.flight.columns import ALONE, Problem, Row
from featx.serve.flight.tickets import Form, Ticket
from featx.serve.problems import log
from featx.serve.spans import Bytes, Spans, stored_key
from featx.store.base import open_sealed
from featx.store.folder import FolderStore
from featx.store.manifest import PartManifest, part_folder
from featx.store.reader import StoreReader
from featx.store.view import View

LARGEST = 2**31 - 1  # bytes of a value of Arrow's binary
_AT_ONCE = 256  # keys that are looked up together
_FULL = 1 << 20  # bytes from which a batch is sent
_MOST = 1024  # rows of a batch


def keys_of(reader: StoreReader, ticket: Ticket) -> Iterable[str]:
    """The keys of a ticket, those of a part in ascending order. Raises UsageError, StoreError."""
    if ticket.keys is not None:
        return ticket.keys
    return reader.keys(ticket.order) if ticket.part is None else _part_keys(reader, ticket.part)


def rows_of(spans: Spans, keys: Iterable[str], form: Form) -> Iterator[Row]:
    """A row for each key, in their order. Records for ``arrays`` are verified: nobody can behind the server."""
    if form == "keys" and not isinstance(keys, tuple):  # they come out of the store
        yield from (Row(key, None) for key in keys)
        return
    waiting = iter(keys)
    while some := list(islice(waiting, _AT_ONCE)):
        for key, found in zip(some, spans.find_all(some), strict=True):
            yield _row(spans, key, found, form == "arrays")


def batches(rows: Iterable[Row], form: Form) -> Iterator[list[Row]]:
    """The rows, as many together as one batch of Arrow is to hold."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        length = 0 if row.record is None or form in ("keys", "headers") else len(row.record)
        alone = length >= ALONE and form != "views"
        if batch and (alone or len(batch) == _MOST or size >= _FULL):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length if not alone else _FULL
    if batch:
        yield batch


def _row(spans: Spans, key: str, found: Bytes | FeatxError | None, verify: bool) -> Row:
    if isinstance(found, UsageError):
        return Row(key, None, Problem("missing", found.message, found.hint))
    if isinstance(found, FeatxError):
        log.error("%s", found)
        return Row(key, None, _damaged(key))
    if found is None:
        return Row(key, None, _missing(spans, key))
    if len(found) > LARGEST:
        return Row(key, None, Problem("damaged", f"record {key!r} has {len(found)} bytes, too many to be sent", ""))
    if verify and checksum(found, stored_key(key)) != peek(found).checksum:
        log.error("record %r of %r is damaged: it has not the checksum that it says", key, spans.reader)
        return Row(key, None, _damaged(key))
    return Row(key, found)


def _missing(spans: Spans, key: str) -> Problem:
    refusal = spans.refusals.get(key) or spans.refusals.get(normalize("NFC", key))
    if refusal is None:
        return Problem("missing", f"{key[:200]!r} is not in the store", "the action keys lists what there is")
    what = f"{key[:200]!r} is not in the store: it was refused ({refusal.reason}: {refusal.message})"
    return Problem("refused", what, "mend the picture and extract again with --retry-refused")


def _damaged(key: str) -> Problem:
    return Problem(
        "damaged",
        f"record {key[:200]!r} is damaged where it is stored",
        "run `featx verify` on the store of the server",
    )


def _part_keys(reader: StoreReader, part: int) -> Iterator[str]:
    folder = reader.superset if isinstance(reader, View) else reader
    if not isinstance(folder, FolderStore):
        raise UsageError("the store has no parts", 'ask for its keys, or for "all": true')
    count = folder.manifest.parts
    if part >= count:
        raise UsageError(f"there is no part {part}", f"the store has {count}, counted from 0")
    place = part_folder(folder.path, part, count)
    said = PartManifest.load(place)
    if said is None:
        raise UsageError(f"part {part} is not finished", "ask later, or for keys")
    shards = open_sealed(folder.manifest.backend, place, folder.schema, said)
    stored = sorted(key for shard in shards for key in shard) if len(shards) > 1 else iter(shards[0] if shards else ())
    return (said.aliases.get(text(key), text(key)) for key in stored)
