"""Which examples are in which batch: a pure function of (seed, epoch, step), so a position in it is two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import UsageError
from featx.loading.chance import generator

if TYPE_CHECKING:
    from featx.store import StoreReader

Rows = np.ndarray[Any, np.dtype[np.int64]]

_AT_ONCE = 1 << 16  # keys
POOL = 64  # batches' worth of shuffled examples that are sorted by length together


class Order:
    """The order of ``count`` examples in each epoch, cut into steps of ``batch`` for each of ``world`` processes.

    Process ``rank`` takes every ``world``-th example of a step. All have the same number of steps, and no example comes
    twice in an epoch. The last step of an epoch is smaller where the examples do not come out even; with ``drop_last``
    there is none such. Where the last step would have fewer examples than there are processes, the one before gives it
    some of its own; only steps of one example for each cannot, and then fewer than ``world`` examples are left out.

    shuffle: anew each epoch; otherwise the examples come as they are. lengths: of each example, for batches of similar
    lengths: shuffled examples are sorted by it, ``POOL`` steps at a time, and the steps shuffled again.
    """

    def __init__(
        self, count: int, batch: int, seed: int = 0, *, rank: int = 0, world: int = 1, shuffle: bool = True,
        drop_last: bool = False, lengths: Rows | None = None,
    ) -> None:  # fmt: skip
        if batch < 1:
            raise UsageError(f"batch is {batch}", "give the number of examples of a batch, at least 1")
        if not 0 <= rank < world:
            raise UsageError(f"rank is {rank} of a world of {world}", "ranks count from 0 to world - 1")
        self.count, self.seed, self.rank, self.world, self.shuffle = count, seed, rank, world, shuffle
        self.group = batch * world
        self._lengths = lengths if shuffle else None
        self._begins = _begins(count, batch, world, drop_last=drop_last)
        if not self.steps:
            raise UsageError(
                f"there are {count} examples, fewer than one step of {world} process(es) takes: "
                f"{self.group if drop_last else world}",
                "lower batch, or keep the last, smaller step (drop_last=False)" if drop_last else "give more keys",
            )
        self._order = lru_cache(maxsize=2)(self._shuffled)  # the end of one epoch and the next are wanted at once

    @property
    def steps(self) -> int:
        """Batches of an epoch, of each process."""
        return len(self._begins) - 1

    def rows(self, epoch: int, step: int) -> Rows:
        """Indices of the examples of this process in a step; epoch and step count from 0."""
        begin, end = self._begins[step : step + 2]
        found: Rows = self._order(epoch)[begin + self.rank : end : self.world]
        return found

    def _shuffled(self, epoch: int) -> Rows:
        if not self.shuffle:
            return np.arange(self.count)
        order = generator(self.seed, "order", epoch).permutation(self.count)
        if self._lengths is None:
            return order
        return bucketed(order, self._lengths, self.group, generator(self.seed, "buckets", epoch))


def lengths_of(store: StoreReader, keys: Sequence[str]) -> Rows:
    """The number of rows of the record of each key, from its header: int64 ``[B]``. Raises KeyNotFound."""
    parts = [store.row_counts(keys[begin : begin + _AT_ONCE])[:, 0] for begin in range(0, len(keys), _AT_ONCE)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def bucketed(order: Rows, lengths: Rows, group: int, chance: np.random.Generator) -> Rows:
    """``order`` changed so that each ``group`` of examples that follow one another has similar ``lengths``.

    Examples stay within ``POOL`` groups of where they were, then the groups change places. Those behind the last full
    group stay where they are.
    """
    full, pool = len(order) // group * group, POOL * group
    pools = [order[begin : min(begin + pool, full)] for begin in range(0, full, pool)]
    ordered = [one[np.argsort(lengths[one], kind="stable")] for one in pools]
    groups = np.concatenate([order[:0], *ordered]).reshape(-1, group)
    return np.concatenate([groups[chance.permutation(len(groups))].ravel(), order[full:]])


def _begins(count: int, batch: int, world: int, *, drop_last: bool) -> list[int]:
    """Where each step begins, and where the last one ends."""
    group = batch * world
    begins, rest = list(range(0, count + 1, group)), count % group
    if drop_last or not rest:
        return begins
    if rest < world:  # of the last step each process must have an example
        if batch == 1 or len(begins) == 1:
            return begins
        begins[-1] -= world - rest
    return [*begins, count]
