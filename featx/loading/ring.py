"""Batch buffers that are used again: a batch in fresh memory costs more in page faults than the records in it.

The rule: a buffer travels with the batch that was read into it, and whoever is done with the batch says so
(:meth:`Filled.release`). Only then another batch may be read into it. A batch of which nobody says so keeps its buffer,
and the ring makes another: forgetting costs memory, never the truth of a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import torch

from featx.errors import UsageError
from featx.record import RecordBatch
from featx.schema import Schema
from featx.store import StoreReader

Dtype = Literal["float32", "stored"]
Boxes = Literal["pixels", "unit"]

STEP = 8  # rows by which buffers grow


class Slot:
    """One buffer, for ``size`` records of up to ``rows`` rows."""

    def __init__(self, buffer: RecordBatch, rows: int, schema: Schema) -> None:
        self.rows, self._buffer, self._by_picture = rows, buffer, {f.name for f in schema.extras if f.per == "picture"}
        self._copied: torch.cuda.Event | None = None

    def cut(self, count: int, rows: int) -> RecordBatch:
        """The beginning of the buffer as a batch of ``count`` records of ``rows`` rows; every tensor is contiguous."""
        whole = self._buffer
        extra = {n: t[:count] if n in self._by_picture else _cut(t, count, rows) for n, t in whole.extra.items()}
        features, boxes, mask = (_cut(tensor, count, rows) for tensor in (whole.features, whole.boxes, whole.mask))
        return RecordBatch((), features, boxes, mask, whole.sizes[:count], extra)

    def mark(self) -> None:
        """Whatever the current stream of the GPU is to do by now may read the buffer: copies from pinned memory."""
        if self._buffer.features.is_pinned():
            self._copied = torch.cuda.current_stream().record_event(self._copied)

    def wait(self) -> None:
        """Until all of that is done."""
        if self._copied is not None:
            self._copied.synchronize()


class Filled:
    """records: a batch that lies in a buffer of a ring, to be released when its values are not needed any more."""

    def __init__(self, records: RecordBatch, slot: Slot, ring: Ring) -> None:
        self.records = records
        self._slot: Slot | None = slot
        self._ring = ring

    def copied(self) -> None:
        """Copies to the GPU were begun on its current stream: the buffer is not used again before they are done."""
        if self._slot is not None:
            self._slot.mark()

    def release(self) -> None:
        """The buffer may be used again. A second time does nothing."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._ring.give(slot)


class Ring:
    """Buffers for batches of up to ``size`` records of one store, made when none is free; threads may share it.

    So there are as many as batches were in use at once. dtype, boxes and fields are those of ``StoreReader.get_batch``.
    rows: of the longest record, where it is known; buffers grow to what is read otherwise. pin: in page-locked memory.
    """

    def __init__(
        self, store: StoreReader, size: int, *, rows: int | None = None, dtype: Dtype = "float32",
        boxes: Boxes = "pixels", fields: Sequence[str] | None = None, pin: bool = False,
    ) -> None:  # fmt: skip
        self._store, self._size, self._dtype, self._boxes, self._pin = store, size, dtype, boxes, pin
        if pin and not torch.cuda.is_available():
            raise UsageError("pinned memory needs a GPU, and torch finds none", "leave pin out")
        self._fields = None if fields is None else tuple(fields)
        self._fixed, self._longest = store.schema.rows, rows or 0
        self._free: list[Slot] = []
        self._lock = threading.Lock()

    def read(self, keys: Sequence[str]) -> Filled:
        """The records of ``keys``, at most ``size``, padded to the longest of them; errors as of ``get_batch``."""
        rows = self._fixed
        if rows is None:
            rows = int(self._store.row_counts(keys)[:, 0].max(initial=0))
        slot = self._take(rows)
        try:
            records = self._store.get_batch(keys, slot.cut(len(keys), rows), boxes=self._boxes)
        except BaseException:
            self.give(slot)
            raise
        return Filled(records, slot, self)

    def give(self, slot: Slot) -> None:
        """Take a buffer back."""
        with self._lock:
            self._free.append(slot)

    def _take(self, rows: int) -> Slot:
        with self._lock:
            # The one used last is likely to be in the cache still; of pinned ones, the one used first is done copying.
            slot = self._free.pop(0 if self._pin else -1) if self._free else None
            if slot is not None and slot.rows < rows:
                slot = None  # gone, before a larger one takes its place
            if rows > self._longest:
                self._longest = -(-rows // STEP) * STEP
            longest = self._longest
        if slot is None:
            return self._made(longest if self._fixed is None else self._fixed)
        slot.wait()
        return slot

    def _made(self, rows: int) -> Slot:
        made = self._store.buffer(
            self._size, None if self._fixed is not None else rows, dtype=self._dtype, fields=self._fields, pin=self._pin
        )
        return Slot(made, rows, self._store.schema)


def _cut(tensor: torch.Tensor, count: int, rows: int) -> torch.Tensor:
    """``[size, longest, ...]`` -> ``[count, rows, ...]`` at the beginning of the same memory."""
    inner = tensor.shape[2:]
    return tensor.view(-1)[: count * rows * inner.numel()].view(count, rows, *inner)
