"""Proposals and selections of a fixed length, with their number beside them on the device.

``proposals`` and ``selection`` say how many they found by the length of a result, for which the host must wait for
a GPU. Here whatever takes no part goes behind what does, and the same choices are made; tests compare the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from featx import ops
from featx_extractors.network import Predictions
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.proposals import decode, falling, large_enough
from featx_extractors.selection import Competing, Regression, Selection, best_class, competing
from featx_extractors.superset import Marks, common_marks
from featx_extractors.weights.checkpoint import UNIT, Weights4

MOST_CANDIDATES = 1 << 15  # regions under a class that one NMS is made to look at: 128 MB of bits


class Padded(NamedTuple):
    """boxes ``[post_nms, 4]`` float32 input pixels, by falling logit; taking int64 ``[1]``: only so many are some."""

    boxes: torch.Tensor
    taking: torch.Tensor


def propose_padded(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    frame: Frame,
    profile: Profile,
    weights: Weights4 = UNIT,
) -> Padded:
    """The proposals of one picture; arguments as of ``proposals.propose``."""
    if profile.filter_first:
        boxes = decode(deltas, anchors, frame, profile, weights)
        large = large_enough(boxes, frame, profile)
        order = falling(logits)
        rows = order[first(large[order])][: profile.pre_nms]
        boxes = boxes[rows]
    else:
        rows = falling(logits)[: profile.pre_nms]
        boxes = decode(deltas[rows], anchors[rows], frame, profile, weights)
        large = large_enough(boxes, frame, profile)
        front = first(large)
        rows, boxes = rows[front], boxes[front]
    taking = large.sum().clamp(max=len(rows)).view(1)
    keep, count = ops.nms_padded(
        boxes, logits[rows], taking, profile.rpn_nms, limit=profile.post_nms,
        inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
    )  # fmt: skip
    return Padded(boxes[keep], count)


def first(wanted: torch.Tensor) -> torch.Tensor:
    """Indices ``[n]`` that put the True of ``wanted [n]`` in front, each side in its order."""
    return (~wanted).to(torch.uint8).sort(stable=True).indices


def can_select(profile: Profile) -> bool:
    """Whether the profile's rule is known here, within bounds."""
    if profile.superset:
        return profile.select == "classwise"
    return profile.select != "multilabel" or profile.post_nms * _classes_above(profile) <= MOST_CANDIDATES


def select_padded(
    regression: Regression, predictions: Predictions, original_boxes: torch.Tensor, taking: torch.Tensor
) -> tuple[Selection, torch.Tensor]:
    """The profile's rule for the first ``taking`` regions: a selection of ``max_boxes``, and how many are some ``[1]``.

    Rows behind that number are 0. Other arguments as of ``selection.select``.
    """
    profile, probs = regression.profile, predictions.probs
    if profile.select == "classwise":
        rows, _, count = ops.select_boxes_padded(
            original_boxes, probs, taking, nms_threshold=profile.thresholds[0],
            score_threshold=profile.score_threshold, min_boxes=profile.min_boxes, max_boxes=profile.max_boxes,
            inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
        )  # fmt: skip
        confs, classes = best_class(probs)
        return Selection(rows, classes[rows], confs[rows], profile.thresholds[0]), count
    if profile.select == "maxnms":
        return _rising(competing(regression, probs), taking, profile)
    return _rising(*_labelled(regression, probs, taking), profile)


def candidates_padded(
    predictions: Predictions, original_boxes: torch.Tensor, taking: torch.Tensor, profile: Profile
) -> tuple[Selection, Marks, torch.Tensor]:
    """As ``superset.candidates`` of the classwise rule: ``superset`` regions, their marks, and how many are some."""
    most = profile.superset
    ranked, scores, found = ops.select_boxes_padded(
        original_boxes, predictions.probs, taking, nms_threshold=profile.thresholds[0], score_threshold=math.inf,
        min_boxes=most + 1, max_boxes=most + 1, inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
    )  # fmt: skip
    rows = ranked[:most]
    confs, classes = best_class(predictions.probs)
    kept = Selection(rows, classes[rows], confs[rows], profile.thresholds[0])
    beyond = torch.where(found > most, scores[most:], -1.0).view(())
    return kept, {**common_marks(kept, scores[:most]), "next_conf": beyond}, found.clamp(max=most)


def _rising(found: Competing, taking: torch.Tensor, profile: Profile) -> tuple[Selection, torch.Tensor]:
    """NMS at every threshold at once; the first that leaves enough counts, or the last."""
    classes = None if profile.select == "maxnms" else found.classes
    tried = [
        ops.nms_padded(
            found.boxes, found.confs, taking, threshold, limit=profile.max_boxes, classes=classes,
            inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
        )
        for threshold in profile.thresholds
    ]  # fmt: skip
    counts = torch.cat([count for _, count in tried])
    failed = (counts < profile.min_boxes).long().cumprod(0).sum()
    chosen = failed.clamp(max=len(tried) - 1).view(1)
    keep = torch.stack([rows for rows, _ in tried]).index_select(0, chosen)[0]
    selection = Selection(found.rows[keep], found.classes[keep], found.confs[keep], math.nan)
    return selection, counts.index_select(0, chosen)


def _classes_above(profile: Profile) -> int:
    """How many classes of a region can pass the score threshold, as probabilities sum to 1."""
    least = profile.score_threshold
    return int(1 / least) + 1 if least > 0 else 1 << 30


def _labelled(regression: Regression, probs: torch.Tensor, taking: torch.Tensor) -> tuple[Competing, torch.Tensor]:
    """Regions under every class above the score threshold in front, in the order of region and class; their number."""
    foreground, profile = probs[:, :-1], regression.profile
    most = min(foreground.shape[1], _classes_above(profile))
    classes = foreground.topk(most, 1).indices.sort(1).values
    confs = foreground.gather(1, classes)
    rows = torch.arange(len(probs), device=probs.device)[:, None].expand_as(classes)
    passing = ((confs > profile.score_threshold) & (rows < taking)).flatten()
    front = first(passing)
    rows, classes, confs = (values.flatten()[front] for values in (rows, classes, confs))
    return Competing(rows, classes, confs, regression.boxes(rows, classes)), passing.sum().view(1)
