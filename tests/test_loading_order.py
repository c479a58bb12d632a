"""Which examples are in which batch: every one once, the same again, and in similar company."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pytest

from featx.errors import UsageError
from featx.loading.order import POOL, Order, Rows
from featx.train.sampler import Sampler


def epoch(order: Order, number: int = 0) -> list[list[int]]:
    """The batches of an epoch."""
    return [order.rows(number, step).tolist() for step in range(order.steps)]


def flat(lists: Iterable[list[Any]]) -> list[Any]:
    """All that is in the lists."""
    return list(chain.from_iterable(lists))


def ragged(count: int) -> Rows:
    """Numbers of regions between 10 and 100."""
    return np.random.default_rng(0).integers(10, 101, count)


def padding(batches: list[list[int]], lengths: Rows) -> float:
    """Of the rows of all batches, padded to their longest, the share that is padding."""
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - sum(lengths[batch].sum() for batch in batches) / padded


@pytest.mark.parametrize("count", [1, 7, 8, 9, 50])
@pytest.mark.parametrize("lengths", [False, True])
def test_an_epoch_has_every_example_once(count: int, lengths: bool) -> None:
    order = Order(count, 8, seed=3, lengths=ragged(count) if lengths else None)
    batches = epoch(order)
    assert sorted(flat(batches)) == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)
    assert order.steps == -(-count // 8)


def test_epochs_and_seeds_have_orders_of_their_own_and_each_is_the_same_again() -> None:
    lengths = ragged(100)
    for given in (None, lengths):
        assert epoch(Order(100, 8, 1, lengths=given), 2) == epoch(Order(100, 8, 1, lengths=given), 2)
        found = {str(epoch(Order(100, 8, seed, lengths=given), n)) for seed in (1, 2) for n in (0, 1, 2)}
        assert len(found) == 6


def test_any_step_can_be_asked_for_first() -> None:
    there = epoch(Order(100, 8, 1, lengths=ragged(100)), 1)
    assert Order(100, 8, 1, lengths=ragged(100)).rows(1, 7).tolist() == there[7]


def test_examples_that_are_not_shuffled_come_as_they_are() -> None:
    assert epoch(Order(10, 4, shuffle=False, lengths=ragged(10))) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_last_batch_can_be_dropped() -> None:
    batches = epoch(Order(23, 5, seed=1, drop_last=True))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len(set(flat(batches))) == 20


def test_the_training_loop_and_the_loader_have_the_same_order() -> None:
    for rank in range(2):
        ours = Order(50, 4, seed=3, rank=rank, world=2, drop_last=True)
        loop = Sampler(50, 8, seed=3, rank=rank, world=2)
        assert ours.steps == loop.steps
        assert epoch(ours, 1) == [loop.rows(1, step).tolist() for step in range(loop.steps)]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [24, 25, 26, 27, 29, 47, 48, 49])
def test_processes_have_as_many_batches_and_share_no_example(
    count: int, world: int, drop_last: bool, lengths: bool
) -> None:
    given = ragged(count) if lengths else None
    shares = [
        epoch(Order(count, 6, 1, rank=rank, world=world, drop_last=drop_last, lengths=given)) for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    assert all(1 <= len(batch) <= 6 for share in shares for batch in share)
    seen = sorted(flat(flat(shares)))
    assert len(set(seen)) == len(seen)
    if drop_last:
        assert len(seen) == count // (6 * world) * 6 * world
    else:
        assert seen == list(range(count)), "every example is somebody's"


def test_a_step_is_made_of_the_same_examples_however_many_processes_share_it() -> None:
    alone = epoch(Order(96, 8, 1, lengths=ragged(96)))
    shares = [epoch(Order(96, 2, 1, rank=rank, world=4, lengths=ragged(96))) for rank in range(4)]
    for step, batch in enumerate(alone):
        assert sorted(batch) == sorted(flat(share[step] for share in shares))


def test_of_batches_of_one_example_the_rest_is_left_out() -> None:
    shares = [epoch(Order(7, 1, 1, rank=rank, world=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert len(set(flat(flat(shares)))) == 6


def test_similar_lengths_in_a_batch_leave_little_padding() -> None:
    lengths = ragged(20_000)
    apart, together = (epoch(Order(20_000, 32, 1, lengths=given)) for given in (None, lengths))
    assert padding(apart, lengths) > 0.4
    assert padding(together, lengths) < 0.02


def test_batches_of_similar_lengths_come_in_no_order_of_length() -> None:
    lengths = ragged(20_000)
    means = [lengths[batch].mean() for batch in epoch(Order(20_000, 32, 1, lengths=lengths))]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2
    assert len(means) > 2 * POOL


def test_epochs_put_other_examples_of_similar_length_together() -> None:
    order = Order(20_000, 32, 1, lengths=ragged(20_000))
    first, second = ({frozenset(batch) for batch in epoch(order, n)} for n in (0, 1))
    assert not first & second


@pytest.mark.parametrize(("values", "message"), [
    ({"count": 0, "batch": 4}, "there are 0 examples"), ({"count": 3, "batch": 4, "drop_last": True}, "takes: 4"),
    ({"count": 3, "batch": 4, "world": 4}, "there are 3 examples, fewer than one step of 4 process"),
    ({"count": 3, "batch": 0}, "batch is 0"), ({"count": 3, "batch": 1, "rank": 2, "world": 2}, "rank is 2 of a world"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Order(**values)  # type: ignore[arg-type]
