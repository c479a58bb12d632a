"""The regions a batch learns from: proposals of the network itself, compared with the annotated boxes, and sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.proposals import propose
from featx_extractors.training.matching import match, sample
from featx_extractors.training.options import TargetOptions
from featx_extractors.weights.checkpoint import Weights4


@dataclass(frozen=True)
class Truth:
    """What is annotated in one picture.

    boxes ``[G, 4]`` float32 input pixels; classes ``[G]`` int64; attributes ``[G, T + 1]`` float32: the distribution to
    learn, "no attribute" last (None without that head).
    """

    frame: Frame
    boxes: torch.Tensor
    classes: torch.Tensor
    attributes: torch.Tensor | None


@dataclass(frozen=True)
class Sampled:
    """R regions of a batch: rois ``[R, 5]`` (picture, x0 y0 x1 y1 in input pixels).

    classes ``[R]`` int64, the number of classes for background; is_object ``[R]`` bool; boxes ``[R, 4]``: the annotated
    box of each object; attributes ``[R, T + 1]`` or None. Rows of background hold what is never read.
    """

    rois: torch.Tensor
    classes: torch.Tensor
    is_object: torch.Tensor
    boxes: torch.Tensor
    attributes: torch.Tensor | None


def training_profile(profile: Profile, proposals: int) -> Profile:
    """The profile with as many proposals: an annotated box needs neighbours of every overlap to learn from.

    How many boxes it keeps plays no part in proposing, but a profile cannot promise more than it proposes.
    """
    return replace(profile, post_nms=proposals, pre_nms=max(profile.pre_nms, proposals), min_boxes=1, max_boxes=1)


@torch.no_grad()
def sample_regions(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    truths: Sequence[Truth],
    profile: Profile,
    options: TargetOptions,
    classes: int,
    delta_weights: Weights4,
) -> Sampled:
    """Propose as at inference (logits ``[B, M]``, deltas ``[B, M, 4]``), add the annotated boxes, match and sample."""
    parts = []
    for number, truth in enumerate(truths):
        found = propose(logits[number], deltas[number], anchors, truth.frame, profile, delta_weights)
        candidates = torch.cat([found.boxes, truth.boxes])
        parts.append(_of_picture(number, candidates, truth, profile, options, classes))
    attributes = [p.attributes for p in parts if p.attributes is not None]
    return Sampled(
        torch.cat([p.rois for p in parts]),
        torch.cat([p.classes for p in parts]),
        torch.cat([p.is_object for p in parts]),
        torch.cat([p.boxes for p in parts]),
        torch.cat(attributes) if attributes else None,
    )


def _of_picture(
    number: int, candidates: torch.Tensor, truth: Truth, profile: Profile, options: TargetOptions, classes: int
) -> Sampled:
    limit = options.region_positive
    labels, targets = match(candidates, truth.boxes, positive=limit, negative=limit, plus_one=profile.plus_one)
    objects, background = sample(labels, options.region_sample, options.region_share)
    rows = torch.cat([objects, background])
    is_object = torch.arange(len(rows), device=rows.device) < len(objects)
    boxes = candidates[rows]
    rois = torch.cat([boxes.new_full((len(rows), 1), number), boxes], 1)
    if not len(truth.boxes):
        nothing = None if truth.attributes is None else boxes.new_zeros(len(rows), truth.attributes.shape[1])
        return Sampled(rois, targets.new_full((len(rows),), classes), is_object, boxes, nothing)
    wanted = targets[rows]
    shown = torch.where(is_object, truth.classes[wanted], classes)
    attributes = None if truth.attributes is None else truth.attributes[wanted]
    return Sampled(rois, shown, is_object, truth.boxes[wanted], attributes)
