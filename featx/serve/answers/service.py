"""Questions from beginning to end: which model, which record, made on a miss, and the answer.

Two threads work, each with a queue of its own that has an end: one extracts pictures, one answers, so that a question
about a key never waits for somebody's picture. A third writes down what was extracted. Looking keys up is none of their
business, and the server's other routes know nothing of any of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from featx.decode import Policy
from featx.errors import FeatxError, MissingDependency, PictureRefused, StoreError
from featx.serve.answers.asked import Asked
from featx.serve.answers.batcher import Batcher, Busy
from featx.serve.answers.extraction import Extraction, Look, Seen
from featx.serve.answers.memory import Memory
from featx.serve.answers.models import Model, Models
from featx.serve.answers.replies import Question, Replies, Reply
from featx.serve.answers.side import Side, side_of
from featx.serve.answers.single import Flights
from featx.serve.forms import record_form
from featx.serve.problems import Problem, log, unknown_store

if TYPE_CHECKING:
    from featx.record import Record
    from featx.serve.mounted import Mounts
    from featx.store import StoreReader


T = TypeVar("T")


class KnownPictures(Protocol):
    """The pictures of a store; see :class:`featx.serve.pictures.Pictures`."""

    def find(self, key: str) -> tuple[bytes, int] | None:
        """The file of a picture and its place in the list, None when there is none. Raises PictureRefused."""


@dataclass(frozen=True)
class Limits:
    """What is kept in memory and may wait.

    batch, wait: questions of one call of a network, and seconds within which they are gathered. waiting: questions, and
    pictures: files to be extracted, that may wait. memory: bytes of records kept. pixels: of a picture.
    """

    batch: int = 32
    wait: float = 0.004
    waiting: int = 256
    pictures: int = 16
    memory: int = 256 << 20
    pixels: int = 100_000_000


@dataclass(frozen=True, eq=False)
class _Found:
    """A record to ask about. seen: how it was made, for one that was made here."""

    record: Record
    seen: Seen | None = None
    ordinal: int = 0


@dataclass(frozen=True, eq=False)
class _Kept:
    """A record to be written beside a store."""

    side: Side
    key: str
    ordinal: int
    seen: Seen


class Service:
    """Answers about the stores of ``mounts`` and about pictures. write: whether what is extracted is kept on disk."""

    def __init__(
        self, models: Models, mounts: Mounts, pictures: Mapping[str, KnownPictures], limits: Limits, *, write: bool
    ) -> None:
        self.models, self.mounts, self.pictures, self.write = models, mounts, pictures, write
        self.memory: Memory[Seen] = Memory(limits.memory)
        self.flights: Flights[Seen] = Flights()
        self._sides: dict[str, Side] = {}
        self._former: list[Side] = []
        self._siding = threading.Lock()
        self._pool = ThreadPoolExecutor(8, "featx-answers")
        extraction = Extraction(models, self.memory, Policy(max_pixels=limits.pixels))
        self.looks: Batcher[Look, Seen] = Batcher(
            extraction, "featx-extract", size=8, wait=0, room=limits.pictures, group=lambda look: look.model.eye
        )
        self.questions: Batcher[Question, Reply] = Batcher(
            Replies(models), "featx-answer", size=limits.batch, wait=limits.wait, room=limits.waiting,
            group=lambda one: one.model.name, alone=lambda one: one.explain,
        )  # fmt: skip
        self.keeping: Batcher[_Kept, None] = Batcher(
            self._write, "featx-keep", size=16, wait=0, room=64, group=lambda kept: id(kept.side)
        )

    async def _thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Off the event loop, on threads of its own: loading a model must not occupy those that read keys."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def answer(self, asked: Asked) -> dict[str, Any]:
        """The JSON of an answer. Raises Problem, PictureRefused, StoreError, ..."""
        try:
            return await self._answer(asked)
        except Busy as busy:
            raise Problem(
                503, "busy", "more is asked than can be answered", "ask again after the seconds of Retry-After",
                {"retry-after": str(busy.retry_after)},
            ) from None  # fmt: skip

    async def _answer(self, asked: Asked) -> dict[str, Any]:
        store = await self._thread(self._store, asked.store)
        named = None if store is None or asked.store is None else (asked.store, store.manifest)
        model = await _of_model(self._thread(self.models.choose, asked.model, asked.language, named))
        found = await self._found(asked, store, model)
        reply = Reply([])
        if asked.question is not None:
            question = Question(model, found.record, asked.question, asked.top_k, asked.explain)
            reply = await _of_model(self.questions.ask(question))
        return _form(asked, model, found, reply)

    def _store(self, name: str | None) -> StoreReader | None:
        if name is None:
            return None
        try:
            return self.mounts[name]
        except KeyError:
            raise unknown_store(name) from None

    # -- the record ---------------------------------------------------------------------------------------------------

    async def _found(self, asked: Asked, store: StoreReader | None, model: Model) -> _Found:
        """The record that is asked about: from the store, from what was made lately, or made now."""
        if asked.picture is not None:
            digest = await self._thread(_digest, asked.picture)
            kept = self._side(asked.store, store)
            seen = await self._seen(Look(model, asked.picture, digest))
            self._keep(kept, digest, 0, seen)
            return _Found(seen.record, seen)
        assert asked.key is not None
        assert asked.store is not None
        assert store is not None
        held = await self._thread(self._held, asked.store, store, asked.key)
        if held is not None:
            return _Found(held)
        data, ordinal = await self._thread(self._file, asked.store, asked.key)
        digest = await self._thread(_digest, data)
        seen = await self._seen(Look(model, data, digest))
        self._keep(self._side(asked.store, store), asked.key, ordinal, seen)
        return _Found(seen.record, seen, ordinal)

    def _held(self, name: str, store: StoreReader, key: str) -> Record | None:
        """From the store, or from what lies beside it. Raises StoreDamaged."""
        if key in store:
            return store[key]
        side = self._side(name, store)
        return None if side is None else side.find(key)

    def _file(self, name: str, key: str) -> tuple[bytes, int]:
        """The picture behind a key that has no record. Raises Problem, PictureRefused."""
        pictures = self.pictures.get(name)
        found = None if pictures is None else pictures.find(key)
        if found is None:
            also = "" if pictures is None else ", nor is its picture known"
            raise Problem(404, "not_found", f"{key[:200]!r} is not in the store{also}", "the keys route lists the keys")
        return found

    async def _seen(self, look: Look) -> Seen:
        """The record of a picture: made lately, being made, or made now. Raises Problem, PictureRefused, Busy."""
        if look.model.recipe is None:
            raise Problem(
                422, "no_extractor", f"the model {look.model.name} does not say what its pictures are extracted by",
                "ask about a key of a store",
            )  # fmt: skip
        known = self.memory.get(look.identity)
        if known is not None:
            return known
        return await _of_model(self.flights.once(look.identity, lambda: self.looks.submit(look)))

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _side(self, name: str | None, store: StoreReader | None) -> Side | None:
        """What lies beside a store; None where nothing may be written."""
        if not self.write or name is None or store is None:
            return None
        with self._siding:
            side = self._sides.get(name)
            if side is None or side.manifest.totals != store.manifest.totals:  # another store by now
                self._former += [] if side is None else [side]
                side = self._sides[name] = side_of(self.mounts.stores[name].path, name, store.manifest)
            return side

    def _keep(self, side: Side | None, key: str, ordinal: int, seen: Seen) -> None:
        """Have a record written down, if the store takes it and the writer keeps up; nobody waits for that."""
        if side is None or side.trouble is not None or not side.takes(seen.schema, seen.provenance):
            return
        try:
            self.keeping.submit(_Kept(side, key, ordinal, seen))
        except Busy:
            log.info("%r is not kept: the disk does not keep up", key)

    def _write(self, records: Sequence[_Kept]) -> list[None]:
        """The work of the writing thread: records beside one store, after those of stores that were replaced ended."""
        with self._siding:
            former, self._former = self._former, []
        for side in former:
            side.retire()
        records[0].side.put([(kept.key, kept.ordinal, kept.seen) for kept in records])
        return [None] * len(records)

    def close(self, timeout: float | None = None) -> None:
        """Begin nothing more, write down what is to be kept, and end the threads."""
        for batcher in (self.questions, self.looks):
            batcher.close(timeout)
        self.keeping.close(timeout, finish=True)
        for side in (*self._former, *self._sides.values()):
            side.close()
        self._pool.shutdown(wait=False)

    # -- what is told -------------------------------------------------------------------------------------------------

    def about(self) -> list[dict[str, Any]]:
        """What GET /v1/models says of each model; none is loaded for it."""
        manifests = {}
        for name in self.mounts:
            try:
                manifests[name] = self.mounts[name].manifest
            except (StoreError, KeyError):
                continue
        return [_about(model, manifests) for model in self.models.values()]

    def figures(self) -> dict[str, float]:
        """Numbers for /metrics."""
        return {
            "featx_answers_waiting": self.questions.waiting,
            "featx_answers_total": self.questions.done,
            "featx_answers_calls_total": self.questions.calls,
            "featx_extractions_waiting": self.looks.waiting,
            "featx_extractions_total": self.looks.done,
            "featx_extractions_joined_total": self.flights.joined,
            "featx_extractions_memory_bytes": self.memory.bytes,
            "featx_extractions_memory_hits_total": self.memory.hits,
        }


async def _of_model(work: Awaitable[T]) -> T:
    """The result; what is wrong with a model, and not with the question, is told in the log only."""
    try:
        return await work
    except (PictureRefused, StoreError, MissingDependency):
        raise
    except FeatxError as error:
        log.error("a model cannot be used: %s", error)
        raise Problem(
            503, "model_unavailable", "the model cannot be used", "whoever runs the server finds more in its log",
            {"retry-after": "60"},
        ) from None  # fmt: skip


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _form(asked: Asked, model: Model, found: _Found, reply: Reply) -> dict[str, Any]:
    record = found.record
    form = {
        "answers": reply.answers,
        "model": model.name,
        "store": asked.store,
        "key": asked.key,
        "size": list(record.size),
        "boxes": record.boxes[: len(record)].tolist(),
        "weights": reply.weights,
        "cut": reply.cut,
    }
    if asked.picture is not None and found.seen is not None:
        form["record"] = record_form(record, "", found.ordinal, found.seen.labels)
    return form


def _about(model: Model, manifests: Mapping[str, Any]) -> dict[str, Any]:
    stores = None
    if model.is_loaded or model.about.get("wants"):
        stores = [name for name, manifest in manifests.items() if not model.amiss(manifest)]
    return {
        "name": model.name,
        "kind": model.kind,
        "languages": list(model.languages),
        "stores": stores,
        "pictures": model.recipe is not None,
        "loaded": model.is_loaded,
    }
