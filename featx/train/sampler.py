"""Which examples are in which batch: a pure function of (seed, epoch, step), so a position in it is two numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from featx.errors import UsageError
from featx.loading.chance import generator
from featx.loading.order import Rows, bucketed


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
        self.count, self.batch, self.seed = count, batch, seed
        self.rank, self.world, self.pieces = rank, world, pieces
        self._lengths = lengths
        self._order = lru_cache(maxsize=2)(self._shuffle)  # threads work at the end of one epoch and the next at once

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch

    def rows(self, epoch: int, step: int, piece: int = 0) -> Rows:
        """Indices of one piece of this process: ``[batch / world / pieces]``; epoch and step count from 0."""
        return self._order(epoch)[self.places(step, piece)]

    def places(self, step: int, piece: int = 0) -> Rows:
        """Where these stand in the order of their epoch: a place is the same example however a batch is shared."""
        mine = np.arange(step * self.batch, (step + 1) * self.batch)[self.rank :: self.world]
        size = len(mine) // self.pieces
        return mine[piece * size : (piece + 1) * size]

    def _shuffle(self, epoch: int) -> Rows:
        order = generator(self.seed, "order", epoch).permutation(self.count)
        if self._lengths is None:
            return order
        return bucketed(order, self._lengths, self.batch, generator(self.seed, "buckets", epoch))
