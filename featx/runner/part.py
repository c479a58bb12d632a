"""The run of one part, from sources to a published part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial

from featx.decode import Policy
from featx.errors import Interrupted, PictureRefused, RecordError
from featx.extractor import Extractor
from featx.images import Source
from featx.progress import Progress
from featx.record import Record
from featx.runner.batches import AHEAD, batches
from featx.runner.decoder import Decoder, Ready
from featx.runner.network import Network, Outcome
from featx.runner.stopper import Stopper
from featx.runner.watch import Watch
from featx.runner.writing import Batch, Writing
from featx.store import PartWriter


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
        self.extractor, self.writer, self.progress, self.on_note = extractor, writer, progress, on_note
        self.workers, self.policy = workers, policy or Policy()
        self.network = Network(extractor, batch, progress, on_note)
        progress.lanes(decode=workers, network=1, write=1)

    def run(self, sources: Sequence[Source], resume_hint: str = "run the same command again to go on") -> None:
        """Extract every source that the part does not hold yet, then publish the part.

        Raises Interrupted, after committing the batch under way, when the user asked to stop.
        """
        missing = [s for s in sources if s.key not in self.writer.done]
        watch = Watch(self.writer.folder, missing, self.on_note)
        with (
            Stopper(self.on_note) as stopper,
            watch,
            Writing(partial(self._write, watch)) as writing,
            closing(self._batches(watch, writing)) as made,
        ):
            for batch in made:
                writing.hand(Batch([ready.source for ready in batch], self.network.begin(batch)))
                if stopper.asked:
                    writing.drain()
                    raise Interrupted("stopped; everything computed so far is committed", resume_hint)
        watch.finish()
        self.writer.finish()

    def _batches(self, watch: Watch, writing: Writing) -> Generator[list[Ready]]:
        """All that is missing: suspects first, each alone from decoding to commit, then the others, overlapped.

        What is poison is refused; what was the only picture in hand at a death comes last, alone.
        """
        decoder = Decoder(self.extractor, self.policy, self.workers, self.progress, watch.take)
        for source in watch.poison:
            yield [Ready(source, refused=watch.verdict(source))]
        for source in watch.suspects:
            writing.drain()
            yield [decoder.ready(source)]
        writing.drain()
        with closing(decoder.ahead(watch.others, self.workers + AHEAD * self.network.batch)) as ahead:
            yield from batches(ahead, lambda: self.network.batch)
        for source in watch.aside:
            writing.drain()
            yield [decoder.ready(source)]

    def _write(self, watch: Watch, several: Sequence[Batch]) -> None:
        """Commit batches: when this returns, their records are durable; so are those before a batch that failed."""
        done: list[Source] = []
        refused = 0
        try:
            for batch in several:
                outcomes = batch.outcomes()
                with self.progress.time("write"):
                    refused += sum(not self._put(*one) for one in zip(batch.sources, outcomes, strict=True))
                done += batch.sources
        finally:
            with self.progress.time("write"):
                self.writer.commit()
            watch.land(done)
            self.progress.advance(len(done), refused=refused)

    def _put(self, source: Source, outcome: Outcome) -> bool:
        """Write a record, or a line of the ledger; True when a record was written."""
        if isinstance(outcome, Record):
            try:
                self.writer.put(source.key, outcome, source.ordinal)
                return True
            except RecordError as error:
                outcome = PictureRefused("bad-record", error.message, error.hint)
        self.writer.refuse(source.key, source.ordinal, source.location, outcome.reason, outcome.message)
        return False
