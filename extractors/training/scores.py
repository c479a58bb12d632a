"""How good detections are: average precision of boxes, and attributes of the boxes that were found.

Average precision as PASCAL VOC defines it since 2010 (Everingham et al. 2010; the development kit): within a class, all
detections of all pictures by falling score; precision made monotonic, and the area under it at every recall; mAP is the
mean over the classes that occur. Which box a detection finds is decided as in COCO (Lin et al. 2014), whose ``AP50`` is
the same figure but for sampling precision at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.schema import Array


@dataclass(frozen=True, eq=False)
class Detections:
    """n detections of one picture: boxes ``[n, 4]``, classes and scores ``[n]``, and attributes ``[n, k]``: the k
    likeliest, best first (k may be 0)."""

    boxes: Array
    classes: Array
    scores: Array
    attributes: Array


@dataclass(frozen=True, eq=False)
class Expected:
    """The G annotated boxes ``[G, 4]`` of one picture, their classes ``[G]`` and the attributes named for each."""

    boxes: Array
    classes: Array
    attributes: Sequence[Sequence[int]]


def assign(found: Detections, expected: Expected, least_iou: float = 0.5) -> Array:
    """Row of the annotated box that each detection finds, -1 for none: ``[n]`` int64.

    By falling score, each takes the box of its class that it overlaps most among those not taken yet.
    """
    rows = np.full(len(found.boxes), -1)
    taken = np.zeros(len(expected.boxes), bool)
    if not len(expected.boxes):
        return rows
    overlap = iou(found.boxes, expected.boxes)
    for i in np.argsort(-found.scores, kind="stable"):
        fitting = np.where((expected.classes == found.classes[i]) & ~taken, overlap[i], 0.0)
        best = int(fitting.argmax())
        if fitting[best] >= least_iou:
            rows[i], taken[best] = best, True
    return rows


def mean_average_precision(
    found: Sequence[Detections], expected: Sequence[Expected], assigned: Sequence[Array], classes: int
) -> tuple[float, list[float]]:
    """mAP over the classes that occur, and the average precision of each class (NaN where it does not occur)."""
    scores = np.concatenate([f.scores for f in found] or [np.zeros(0)])
    kinds = np.concatenate([f.classes for f in found] or [np.zeros(0, np.int64)])
    right = np.concatenate([rows >= 0 for rows in assigned] or [np.zeros(0, bool)])
    totals = (
        np.bincount(np.concatenate([e.classes for e in expected]), minlength=classes) if expected else [0] * classes
    )
    each = [
        average_precision(scores[kinds == c], right[kinds == c], int(totals[c])) if totals[c] else float("nan")
        for c in range(classes)
    ]
    there = [value for value, total in zip(each, totals, strict=True) if total]
    return (float(np.mean(there)) if there else 0.0), each


def average_precision(scores: Array, right: Array, total: int) -> float:
    """Area under the monotonic precision of detections ``[n]`` of one class that has ``total`` annotated boxes."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def attribute_scores(
    found: Sequence[Detections], expected: Sequence[Expected], assigned: Sequence[Array]
) -> dict[str, float]:
    """Over the detections that found a box with named attributes: shares of them, 0 to 1.

    attribute_accuracy: the likeliest attribute is one that is named for the box. first_attribute: it is the one named
    first. each_attribute: of all named attributes, those among the k likeliest, for a box with k of them.
    all_attributes: the k likeliest are exactly the k that are named.
    """
    any_right, first_right, each_right, all_right = [], [], [], []
    for detections, truth, rows in zip(found, expected, assigned, strict=True):
        for attributes, row in zip(detections.attributes.tolist(), rows, strict=True):
            named = truth.attributes[row] if row >= 0 else ()
            if named and attributes:
                any_right.append(attributes[0] in named)
                first_right.append(attributes[0] == named[0])
                likeliest = attributes[: len(named)]
                each_right += [attribute in likeliest for attribute in named]
                all_right.append(set(likeliest) == set(named))
    shares = {
        "attribute_accuracy": any_right,
        "first_attribute": first_right,
        "each_attribute": each_right,
        "all_attributes": all_right,
    }
    return {name: float(np.mean(values)) if values else 0.0 for name, values in shares.items()}


def iou(a: Array, b: Array) -> Array:
    """Intersection over union ``[n, m]`` of boxes ``[n, 4]`` and ``[m, 4]``."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    found: Array = np.divide(shared, union, out=np.zeros_like(union), where=shared > 0)
    return found
