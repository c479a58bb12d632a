"""The order of a training run: steps of whole batches, each in as many pieces as are accumulated."""

from __future__ import annotations

import numpy as np

from featx.errors import UsageError
from featx.loading.order import Order, Rows


class Sampler:
    """Shuffles ``count`` examples anew each epoch and cuts them into batches, the last, partial one dropped.

    Batch b of an epoch has the same examples however many processes there are: process ``rank`` of ``world`` takes
    ``b[rank::world]``, in ``pieces`` pieces. Raises UsageError when a batch cannot be cut evenly, because then the mean
    over processes and pieces would not be the mean over the batch, and when there is not one full batch.
    lengths: of each example, for batches of similar lengths, see :func:`featx.loading.order.bucketed`.
    """

    def __init__(
        self, count: int, batch: int, seed: int, *, rank: int = 0, world: int = 1, pieces: int = 1,
        lengths: Rows | None = None,
    ) -> None:  # fmt: skip
        if batch % (world * pieces):
            raise UsageError(
                f"train.batch is {batch}, which {world} process(es) x train.accumulate {pieces} cannot share evenly",
                f"give a multiple of {world * pieces} for train.batch",
            )
        if count < batch:
            raise UsageError(
                f"there are {count} training examples, fewer than one batch of {batch}", "lower train.batch"
            )
        self.batch, self.rank, self.world, self.size = batch, rank, world, batch // (world * pieces)
        self._order = Order(count, batch // world, seed, rank=rank, world=world, drop_last=True, lengths=lengths)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self._order.steps

    def rows(self, epoch: int, step: int, piece: int = 0) -> Rows:
        """Indices of one piece of this process: ``[batch / world / pieces]``; epoch and step count from 0."""
        return self._piece(self._order.rows(epoch, step), piece)

    def places(self, step: int, piece: int = 0) -> Rows:
        """Where these stand in the order of their epoch: a place is the same example however a batch is shared."""
        return self._piece(np.arange(step * self.batch, (step + 1) * self.batch)[self.rank :: self.world], piece)

    def _piece(self, mine: Rows, piece: int) -> Rows:
        return mine[piece * self.size : (piece + 1) * self.size]
