"""The extractor, called with as many pictures at once as fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featx.errors import PictureRefused
from featx.extractor import Extractor
from featx.progress import Progress
from featx.record import Record
from featx.runner.decoder import Ready

Outcome = Record | PictureRefused
Outcomes = Callable[[], list[Outcome]]  # waits for what was begun


class Network:
    """Records of batches. batch: the most pictures of one call; it is halved when memory runs out, and stays so."""

    def __init__(self, extractor: Extractor, batch: int, progress: Progress, on_note: Callable[[str], None]) -> None:
        self.extractor, self.batch, self.progress, self.on_note = extractor, batch, progress, on_note

    def begin(self, batch: Sequence[Ready]) -> Outcomes:
        """Begin a batch: the record of each picture, or why there is none; a refused picture is a batch of its own.

        Waiting for it is work of the network, too: on a GPU that is where its time passes.
        """
        refused = batch[0].refused
        if refused is not None:
            return lambda: [refused]
        if len(batch) > self.batch:  # collected before the memory ran out
            return self._in_pieces(batch)
        try:
            with self.progress.time("network"):
                return self._waited(self.extractor.begin([ready.prepared for ready in batch]))
        except Exception as error:
            if not out_of_memory(error):
                raise
        return self._halved(batch)

    def _waited(self, records: Callable[[], list[Record]]) -> Outcomes:
        def wait() -> list[Outcome]:
            with self.progress.time("network"):
                return list(records())

        return wait

    def _halved(self, batch: Sequence[Ready]) -> Outcomes:
        if len(batch) == 1:
            hint = "use --device cpu, or a profile with smaller sides"
            refused = PictureRefused("out-of-memory", "one picture alone does not fit into memory", hint)
            return lambda: [refused]
        self.batch = min(self.batch, len(batch) // 2)  # for the rest of the run as well
        self.on_note(f"out of memory: batches are now of {self.batch}")
        return self._in_pieces(batch)

    def _in_pieces(self, batch: Sequence[Ready]) -> Outcomes:
        pieces: list[Outcomes] = []
        at = 0
        while at < len(batch):
            piece = batch[at:][: self.batch]  # fewer than before, when the memory has run out meanwhile
            pieces.append(self.begin(piece))
            at += len(piece)
        return lambda: [outcome for piece in pieces for outcome in piece()]


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out, of the device or of the machine."""
    # By name, so that this module needs no torch: torch.OutOfMemoryError, or the allocator's RuntimeError on the CPU.
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
