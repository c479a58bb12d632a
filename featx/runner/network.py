"""The extractor, called with as many pictures at once as fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featx.errors import PictureRefused
from featx.extractor import Extractor
from featx.progress import Progress
from featx.record import Record
from featx.runner.decoder import Ready

Outcome = Record | PictureRefused


class Network:
    """Records of batches. batch: the most pictures of one call; it is halved when memory runs out, and stays so."""

    def __init__(self, extractor: Extractor, batch: int, progress: Progress, on_note: Callable[[str], None]) -> None:
        self.extractor, self.batch, self.progress, self.on_note = extractor, batch, progress, on_note

    def __call__(self, batch: Sequence[Ready]) -> list[Outcome]:
        """The record of each picture of a batch, or why there is none; a refused picture is a batch of its own."""
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

    def _halved(self, batch: Sequence[Ready]) -> list[Outcome]:
        if len(batch) == 1:
            hint = "use --device cpu, or a profile with smaller sides"
            return [PictureRefused("out-of-memory", "one picture alone does not fit into memory", hint)]
        self.batch = min(self.batch, len(batch) // 2)  # for the rest of the run as well
        self.on_note(f"out of memory: batches are now of {self.batch}")
        return self._in_pieces(batch)

    def _in_pieces(self, batch: Sequence[Ready]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(batch):
            outcomes += self(batch[len(outcomes) :][: self.batch])
        return outcomes


def _out_of_memory(error: Exception) -> bool:
    # By name, so that this module needs no torch: torch.OutOfMemoryError, or the allocator's RuntimeError on the CPU.
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
