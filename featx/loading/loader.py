"""Batches of a store for a training loop: shuffled, of similar length, shared out, made ahead, in memory used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from featx.errors import UsageError
from featx.loading.feed import Feed
from featx.loading.order import Order, Rows, lengths_of
from featx.loading.ring import Boxes, Dtype, Filled, Ring
from featx.record import RecordBatch
from featx.store import StoreReader

Place = tuple[int, int]  # epoch, step of the epoch
Made = tuple[Filled, Any]  # the records, and what the consumer is given


class FeatureLoader:
    """Iterates over batches of a store's records, which a thread reads ahead into a ring of buffers.

    >>> loader = FeatureLoader(featx.open_store("train.featx"), batch=256, seed=1)
    >>> while loader.epoch < 4:
    ...     for batch in loader:  # a RecordBatch: batch.features, batch.boxes, batch.mask, batch.keys
    ...         learn(batch)

    **A batch is valid until the next one is asked for**: then its memory is given back, and another batch is read into
    it. ``batch.clone()`` keeps one. The last batch before a ``break`` stays valid. A copy to a GPU that was begun by
    then on the current stream is waited for.

    keys: of the pictures, one for each example, with repeats where several examples share one; by default all of the
    store. batch: examples of a batch of this process. seed: of the order, which is a pure function of it and the epoch.
    epochs: in one pass, that is one ``for``; None: without end. A pass begins where the one before ended or was left,
    so that epochs are never the same.
    shuffle, drop_last: as in torch's DataLoader. bucket: batches of records of similar length, where these vary and are
    shuffled, which keeps the padding small; it costs reading the header of every record once, at the start.
    rank, world: of how many processes this is which; all have the same number of batches, and no example comes twice.
    prepare: is called in the thread with a batch and the indices of its examples in ``keys`` (int64 ``[B]``), and what
    it returns is given to the consumer; tensors in it may be views of the batch.
    ahead: batches that may wait ready; one more buffer than that is in use. pin: buffers in page-locked memory.
    dtype, boxes, fields: as in :meth:`featx.store.StoreReader.get_batch`.

    Errors of reading (KeyNotFound, StoreDamaged) and of ``prepare`` are raised where the batch is asked for; the loader
    then stands before that batch. Close the loader, or use it as a context manager, to end the thread at once: it ends
    with the pass otherwise, and a pass with its last reference.
    """

    def __init__(
        self, store: StoreReader, keys: Sequence[str] | None = None, *, batch: int = 256, seed: int = 0,
        epochs: int | None = 1, shuffle: bool = True, drop_last: bool = False, bucket: bool = True,
        rank: int = 0, world: int = 1, prepare: Callable[[RecordBatch, Rows], Any] | None = None,
        ahead: int = 2, pin: bool = False, dtype: Dtype = "float32", boxes: Boxes = "pixels",
        fields: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        if epochs is not None and epochs < 1:
            raise UsageError(f"epochs is {epochs}", "give how many epochs a pass has, or None for no end")
        self.store, self.keys, self.epochs = store, list(store.keys()) if keys is None else keys, epochs
        lengths = lengths_of(store, self.keys) if bucket and shuffle and store.schema.rows is None else None
        self.order = Order(
            len(self.keys), batch, seed, rank=rank, world=world, shuffle=shuffle, drop_last=drop_last, lengths=lengths
        )
        self._ring = Ring(
            store, batch, rows=None if lengths is None else int(lengths.max()), dtype=dtype, boxes=boxes,
            fields=fields, pin=pin,
        )  # fmt: skip
        self._prepare, self._ahead, self._pin = prepare, ahead, pin
        self._feed: Feed[Place, Made] | None = None
        self._rule = {
            "seed": seed, "examples": len(self.keys), "step": batch * world,
            "shuffle": shuffle, "drop_last": drop_last, "bucket": lengths is not None,
        }  # fmt: skip
        self.epoch = 0  # of the batch to come
        self.position = 0  # of it in its epoch; 0 says that an epoch is over, or none begun

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.order.steps

    def __len__(self) -> int:
        """Batches of a whole pass. Raises TypeError for one without end."""
        if self.epochs is None:
            raise TypeError("a loader without end has no length")
        return self.steps * self.epochs

    def __iter__(self) -> Iterator[Any]:
        self.close()
        feed = self._feed = Feed(self._make, self._places(), workers=1, ahead=max(1, self._ahead))
        with feed:
            for filled, item in feed:
                self.position += 1
                if self.position == self.steps:
                    self.epoch, self.position = self.epoch + 1, 0
                yield item
                if self._pin:
                    filled.copied()
                filled.release()

    def state_dict(self) -> dict[str, int | bool]:
        """Where the loader stands, behind the batch handed out last, and what its order depends on."""
        return {"epoch": self.epoch, "position": self.position, **self._rule}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader stood. Raises UsageError for one whose order was another.

        Of several processes all must do so; another number of them may go on when as many examples make a step.
        """
        lines = [f"{n} was {state.get(n)!r} and is {v!r}" for n, v in self._rule.items() if state.get(n) != v]
        if lines:
            raise UsageError(
                f"this is the place of a loader with another order: {', '.join(lines)} (step is batch times world)",
                "make the loader as that one was made",
            )
        epoch, position = state.get("epoch"), state.get("position")
        if not (isinstance(epoch, int) and isinstance(position, int) and epoch >= 0 and 0 <= position < self.steps):
            raise UsageError(
                f"epoch {epoch!r}, position {position!r} is no place in epochs of {self.steps} batches",
                "give what state_dict() returned",
            )
        self.close()
        self.epoch, self.position = epoch, position

    def close(self) -> None:
        """End the thread, and with it the pass; another one may begin."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None

    def __enter__(self) -> FeatureLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _places(self) -> Iterator[Place]:
        """From where the loader stands to the end of the pass."""
        epoch, position = self.epoch, self.position
        end = None if self.epochs is None else (epoch // self.epochs + 1) * self.epochs
        for now in count(epoch) if end is None else range(epoch, end):
            yield from ((now, step) for step in range(position if now == epoch else 0, self.steps))

    def _make(self, place: Place) -> Made:
        rows = self.order.rows(*place)
        filled = self._ring.read([self.keys[row] for row in rows.tolist()])
        if self._prepare is None:
            return filled, filled.records
        return filled, self._prepare(filled.records, rows)
