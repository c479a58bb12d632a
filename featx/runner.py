"""One partition: pictures are decoded in threads, batched, extracted, checked and committed, until none is missing.

Killed at any moment, the next run of the same part computes only what is not committed. Nothing here knows which
extractor or which store it drives.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any

from featx.decode import Policy, decode
from featx.errors import FeatxError, Interrupted, PictureRefused, RecordError
from featx.extractor import Extractor, Picture, Reads, Text
from featx.images import Source
from featx.progress import Progress
from featx.record import Record
from featx.store import PartWriter

AHEAD = 4  # decoded pictures waiting per place in a batch: bounds memory, leaves room to group equal sizes


@dataclass(frozen=True)
class Ready:
    """A picture that is ready for the network, or the reason why it never will be."""

    source: Source
    prepared: Any = None
    group: Hashable = None
    refused: PictureRefused | None = None


class Stopper:
    """First Ctrl-C (or SIGTERM): finish the batch. Second: stop at once. A context manager."""

    def __init__(self, on_note: Callable[[str], None]) -> None:
        self.asked = False
        self.on_note = on_note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.on_note("finishing the batch under way; once more stops at once (what is committed is kept)")


class Runner:
    """Runs one part. ``on_note`` receives sentences for the person watching (a halved batch, a stop asked for)."""

    def __init__(
        self,
        extractor: Extractor,
        writer: PartWriter,
        progress: Progress,
        *,
        batch: int = 1,
        workers: int = 2,
        policy: Policy | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.extractor, self.writer, self.progress = extractor, writer, progress
        self.batch, self.workers, self.policy, self.on_note = batch, workers, policy or Policy(), on_note

    def run(self, sources: Sequence[Source], resume_hint: str = "run the same command again to go on") -> None:
        """Extract every source that the part does not hold yet, then publish the part.

        Raises Interrupted, after committing the batch under way, when the user asked to stop.
        """
        missing = [s for s in sources if s.key not in self.writer.done]
        with Stopper(self.on_note) as stopper:
            for group in self._batches(missing):
                self._store(group)
                if stopper.asked:
                    raise Interrupted("stopped; everything computed so far is committed", resume_hint)
        self.writer.finish()

    # -- pictures in ------------------------------------------------------------------------------------------------

    def _batches(self, sources: Sequence[Source]) -> Iterator[list[Ready]]:
        """Batches of one group each; a refused picture comes alone. Order of completion follows the sources."""
        waiting: dict[Hashable, list[Ready]] = {}
        for ready in self._prefetch(sources):
            if ready.refused is not None:
                yield [ready]
                continue
            group = waiting.setdefault(ready.group, [])
            group.append(ready)
            if len(group) >= self.batch:
                yield waiting.pop(ready.group)
            elif sum(map(len, waiting.values())) >= AHEAD * self.batch:
                yield waiting.pop(next(iter(waiting)))  # the group that has waited longest
        yield from waiting.values()

    def _prefetch(self, sources: Sequence[Source]) -> Iterator[Ready]:
        """Sources in order, decoded ahead by the worker threads."""
        window: deque[Future[Ready]] = deque()
        ahead = self.workers + AHEAD * self.batch
        with ThreadPoolExecutor(self.workers, "decode") as pool:
            try:
                for source in sources:
                    window.append(pool.submit(self._ready, source))
                    if len(window) >= ahead:
                        yield window.popleft().result()
                while window:
                    yield window.popleft().result()
            finally:
                for future in window:
                    future.cancel()

    def _ready(self, source: Source) -> Ready:
        try:
            with self.progress.time("decode"):
                prepared = self.extractor.prepare(opened(source, self.extractor.reads, self.policy))
            return Ready(source, prepared, self.extractor.group(prepared))
        except PictureRefused as refusal:
            return Ready(source, refused=refusal)

    # -- records out ------------------------------------------------------------------------------------------------

    def _store(self, batch: list[Ready]) -> None:
        """Extract one batch and commit it: when this returns, its records are durable."""
        refused = 0
        for ready, outcome in zip(batch, self._outcomes(batch), strict=True):
            with self.progress.time("write"):
                refused += not self._put(ready.source, outcome)
        with self.progress.time("write"):
            self.writer.commit()
        self.progress.advance(len(batch), refused=refused)

    def _outcomes(self, batch: list[Ready]) -> list[Record | PictureRefused]:
        if batch[0].refused is not None:
            return [batch[0].refused]
        if len(batch) > self.batch:  # collected before the memory ran out
            return self._in_pieces(batch)
        try:
            with self.progress.time("network"):
                return list(self.extractor([ready.prepared for ready in batch]))
        except Exception as error:
            if not _out_of_memory(error):
                raise
        return self._halved(batch)

    def _halved(self, batch: list[Ready]) -> list[Record | PictureRefused]:
        if len(batch) == 1:
            hint = "use --device cpu, or a profile with smaller sides"
            return [PictureRefused("out-of-memory", "one picture alone does not fit into memory", hint)]
        self.batch = min(self.batch, len(batch) // 2)  # for the rest of the run as well
        self.on_note(f"out of memory: batches are now of {self.batch}")
        return self._in_pieces(batch)

    def _in_pieces(self, batch: list[Ready]) -> list[Record | PictureRefused]:
        outcomes: list[Record | PictureRefused] = []
        while len(outcomes) < len(batch):
            outcomes += self._outcomes(batch[len(outcomes) :][: self.batch])
        return outcomes

    def _put(self, source: Source, outcome: Record | PictureRefused) -> bool:
        """Write a record, or a line of the ledger; True when a record was written."""
        if isinstance(outcome, Record):
            try:
                self.writer.put(source.key, outcome, source.ordinal)
                return True
            except RecordError as error:
                outcome = PictureRefused("bad-record", error.message, error.hint)
        self.writer.refuse(source.key, source.ordinal, source.location, outcome.reason, outcome.message)
        return False


def opened(source: Source, reads: Reads, policy: Policy) -> Picture | Text:
    """What an extractor that ``reads`` pictures, or texts, is given of a source. Raises PictureRefused."""
    if reads == "texts":
        return Text(source.key)
    return Picture(source.key, decode(_read(source), policy))


def _read(source: Source) -> bytes:
    try:
        return source.read()
    except FeatxError:
        raise
    except Exception as error:  # a file system, an archive or a web server may fail in any way
        raise PictureRefused("unreadable", f"{source.location}: {error}", "check that it still exists") from None


def _out_of_memory(error: Exception) -> bool:
    # By name, so that this module needs no torch: torch.OutOfMemoryError, or the allocator's RuntimeError on the CPU.
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
