"""Pairs of regions against all permutations; spreads against numpy on the whole array."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from featx.care.matching import assign, iou, match
from featx.care.spread import Spread


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (5, 3), (6, 6), (4, 7)])
def test_the_assignment_is_worth_as_much_as_the_best_of_all(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    for trial in range(40):
        worth = rng.random(shape)
        if trial % 2:  # crowded: every row wants the same columns
            worth = np.round(worth * rng.random(shape[1]), 1)
        short = worth if shape[0] <= shape[1] else worth.T
        best = max(
            sum(short[row, column] for row, column in enumerate(order))
            for order in permutations(range(short.shape[1]), short.shape[0])
        )
        rows, columns = assign(worth)
        assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)
        assert worth[rows, columns].sum() == pytest.approx(best)


def test_nothing_has_no_pairs() -> None:
    for shape in ((0, 0), (0, 3), (3, 0)):
        rows, columns = assign(np.zeros(shape))
        assert len(rows) == len(columns) == 0


def test_overlap_is_that_of_a_figure_worked_out_by_hand() -> None:
    found = iou(np.array([[0, 0, 4, 2.0]]), np.array([[2, 0, 6, 2], [4, 0, 8, 2], [0, 0, 4, 2], [1, 1, 1, 1.0]]))
    assert found.tolist() == [[4 / 12, 0, 1, 0]]


def test_boxes_in_another_order_find_their_likes() -> None:
    rng = np.random.default_rng(3)
    corners = np.sort(rng.random((30, 2, 2)), axis=1) * 300 + [[0, 0], [40, 40]]
    boxes, order = corners.reshape(30, 4).astype(np.float32), rng.permutation(30)
    rows, columns, overlap = match(boxes, boxes[order])
    assert np.array_equal(order[columns], rows)
    assert overlap == pytest.approx(1)


def test_boxes_without_enough_overlap_stay_alone() -> None:
    rows, columns, _ = match(
        np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]]), np.array([[0, 0, 10, 9.0], [90, 90, 99, 99]])
    )
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def test_a_spread_is_that_of_all_values_together() -> None:
    rng = np.random.default_rng(1)
    parts = [np.maximum(rng.normal(size=(50, 7)) * scale, 0) for scale in (0.1, 1, 30)] + [-rng.random(40)]
    whole = np.concatenate([part.reshape(-1) for part in parts])
    spread = Spread()
    for part in parts:
        spread.add(part)
    assert spread.count == len(whole)
    assert spread.zeros == (whole == 0).sum()
    assert (spread.least, spread.most) == (np.float32(whole.min()), np.float32(whole.max()))
    assert spread.mean == pytest.approx(whole.mean(), rel=1e-6)
    for share in (0.02, 0.3, 0.9, 0.99):
        exact = np.quantile(whole, share, method="inverted_cdf")
        assert spread.quantile(share) == pytest.approx(exact, rel=1 / 128, abs=1e-30)
    edges = np.array([-1, -0.1, 0.05, 1.03, 10, 200.0])
    assert np.abs(spread.histogram(edges) - np.histogram(whole, edges)[0]).max() <= 3  # values near the edges


def test_values_that_are_not_finite_are_counted_apart() -> None:
    spread = Spread()
    spread.add(np.array([1, np.nan, np.inf, 3]))
    assert (spread.count, spread.odd, spread.mean, spread.most) == (2, 2, 2.0, 3.0)
    assert spread.quantile(1.0) == pytest.approx(3, rel=1 / 128)
    assert Spread().to_dict() == {"count": 0}
    assert Spread().quantile(0.5) == 0
