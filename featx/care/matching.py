"""Which region of one record is which of another: the assignment with the largest sum of overlaps."""

from __future__ import annotations

import numpy as np

from featx.schema import Array

LEAST = 0.5  # overlap of two boxes that can be the same region


def iou(first: Array, second: Array) -> Array:
    """Intersection over union of boxes ``[N, 4]`` and ``[M, 4]``: float64 ``[N, M]``, 0 where there is no area."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=2)
    areas = (np.prod(np.maximum(box[..., 2:] - box[..., :2], 0), axis=2) for box in (a, b))
    union = sum(areas) - common
    overlap: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def match(first: Array, second: Array, least: float = LEAST) -> tuple[Array, Array, Array]:
    """Pairs of boxes: rows of ``first``, rows of ``second`` (each at most once), and their overlap, at least ``least``.

    Boxes that are equal are paired in order; the others so that the sum of their overlaps is as large as it can be.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        rows = np.arange(len(first))
        return rows, rows, np.ones(len(first))
    overlap = iou(first, second)
    overlap[overlap < least] = 0
    rows, columns = assign(overlap)
    found = overlap[rows, columns]
    kept = found > 0
    return rows[kept], columns[kept], found[kept]


def assign(worth: Array) -> tuple[Array, Array]:
    """Rows and columns of the pairs that are worth the most in all; every row of the shorter side has one.

    Where each row's best column is another one, that is it; else by shortest augmenting paths (Jonker and Volgenant
    1987, the form for rectangular matrices of Crouse 2016).
    """
    if worth.shape[0] > worth.shape[1]:
        columns, rows = assign(worth.T)
        order = np.argsort(rows, kind="stable")
        return rows[order], columns[order]
    rows = np.arange(len(worth))
    if not len(rows):
        return rows, rows
    best = worth.argmax(axis=1)
    if len(np.unique(best)) == len(best):
        return rows, best
    return rows, _augment(worth.max() - worth)


def _augment(cost: Array) -> Array:
    """The column of each row in the cheapest assignment of ``cost`` [N, M], N <= M."""
    count, width = cost.shape
    up, down = np.zeros(count), np.zeros(width)
    row_of = np.full(width, -1)
    column_of = np.full(count, -1)
    for start in range(count):
        shortest, before = np.full(width, np.inf), np.full(width, -1)
        open_columns = np.ones(width, bool)
        row, reached, end = start, 0.0, -1
        seen = []
        while end < 0:
            seen.append(row)
            way = reached + cost[row] - up[row] - down
            better = open_columns & (way < shortest)
            shortest[better], before[better] = way[better], row
            column = int(np.where(open_columns, shortest, np.inf).argmin())
            reached = float(shortest[column])
            open_columns[column] = False
            if row_of[column] < 0:
                end = column
            else:
                row = int(row_of[column])
        up[start] += reached
        for other in seen[1:]:
            up[other] += reached - shortest[column_of[other]]
        closed = ~open_columns
        down[closed] -= reached - shortest[closed]
        while end >= 0:
            row = int(before[end])
            row_of[end] = row
            column_of[row], end = end, int(column_of[row])
            if row == start:
                break
    return column_of
