"""Proposals: the region proposal network's logits and deltas become at most ``post_nms`` boxes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from featx import ops
from featx_extractors.anchors import grid
from featx_extractors.network import STRIDE
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.weights.checkpoint import UNIT, Weights4

CLAMP = math.log(1000 / 16)  # detectron2's limit of dw and dh: no box grows more than 62.5 times


class Proposals(NamedTuple):
    """boxes ``[P, 4]`` float32 input pixels, by falling logit; logits ``[P]``; anchors ``[P]``: rows of the grid."""

    boxes: torch.Tensor
    logits: torch.Tensor
    anchors: torch.Tensor


def anchor_grid(cell_anchors: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Anchors ``[height * width * A, 4]`` float32 input pixels of a res4 map, in (y, x, anchor) order."""
    boxes = torch.from_numpy(grid(cell_anchors.cpu().numpy(), height, width, STRIDE, 0.0))
    return boxes.float().to(cell_anchors.device)


def propose(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    frame: Frame,
    profile: Profile,
    weights: Weights4 = UNIT,
) -> Proposals:
    """The proposals of one picture. ``weights`` are what the deltas were multiplied by in training.

    logits ``[M]``, deltas ``[M, 4]``, anchors ``[M, 4]`` for every cell and anchor, padding included: boxes are clipped
    to the picture's own ``frame.size``. Caffe and MILVLG drop small boxes before the first cut, detectron2 and the
    Hugging Face demo after it; equal logits keep the anchor order.
    """
    if profile.filter_first:
        boxes = decode(deltas, anchors, frame, profile, weights)
        rows = large_enough(boxes, frame, profile).nonzero()[:, 0]
        rows = rows[falling(logits[rows])[: profile.pre_nms]]
        boxes = boxes[rows]
    else:
        rows = falling(logits)[: profile.pre_nms]
        boxes = decode(deltas[rows], anchors[rows], frame, profile, weights)
        large = large_enough(boxes, frame, profile)
        rows, boxes = rows[large], boxes[large]
    keep = ops.nms(
        boxes, logits[rows], profile.rpn_nms,
        inclusive=profile.nms_inclusive, plus_one=profile.plus_one, limit=profile.post_nms,
    )  # fmt: skip
    return Proposals(boxes[keep], logits[rows][keep], rows[keep])


def falling(logits: torch.Tensor) -> torch.Tensor:
    """Rows ``[M]`` by falling logit; equal logits keep their order."""
    return torch.sort(logits, descending=True, stable=True).indices


def decode(
    deltas: torch.Tensor, anchors: torch.Tensor, frame: Frame, profile: Profile, weights: Weights4
) -> torch.Tensor:
    """Boxes ``[M, 4]`` of deltas and anchors, clipped to the picture."""
    clamp = CLAMP if profile.clamp else None
    boxes = ops.decode_deltas(deltas, anchors, weights, clamp=clamp, plus_one=profile.plus_one)
    return ops.clip_boxes(boxes, frame.size, inclusive=profile.plus_one)


def large_enough(boxes: torch.Tensor, frame: Frame, profile: Profile) -> torch.Tensor:
    """Which boxes have sides of at least the profile's ``min_size``: bool ``[M]``."""
    least = profile.min_size * (frame.scale[0] if profile.min_size_scaled else 1.0)
    sides = boxes[:, 2:] - boxes[:, :2]
    if not profile.min_size_strict:
        return (sides + float(profile.plus_one) >= least).all(1)
    return (sides + float(profile.plus_one) > least).all(1) & (sides > 0).all(1)
