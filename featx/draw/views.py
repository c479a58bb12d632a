"""Which rows of a grid are cells of the picture, and which stands for the whole view (a class token)."""

from __future__ import annotations

import numpy as np

from featx.schema import Array


def are_cells(boxes: Array) -> Array:
    """bool ``[N]`` of boxes ``[N, 4]``: False for a box that covers all the others, of two or more."""
    whole = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]) if len(boxes) else np.zeros(4)
    covers = np.all((boxes[:, :2] <= whole[:2]) & (boxes[:, 2:] >= whole[2:]), axis=1)
    return np.asarray(~covers | covers.all())
