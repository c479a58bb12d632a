"""The losses of a Faster R-CNN with attributes, each a mean over the batch in the way the originals take it.

Anchors: binary cross-entropy of objectness and smooth L1 of the deltas, both over the sampled anchors (Ren et al.
2015; divided as detectron2 does, by the size of the sample). Regions: softmax cross-entropy over classes and
background, smooth L1 of the deltas of the true class (Girshick 2015). Attributes: softmax cross-entropy over all
attributes and "no attribute", for object regions only, from the feature and the embedding of the *true* class
(Anderson et al. 2018, section 3.1). Several attributes of a box have the same share each, and a box without any teaches
"no attribute", as in that paper's Caffe; grid-feats-vqa leaves such boxes out (``unannotated: ignore``).
``attribute_order: falling``, which is featx's own, gives the first named the largest share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from featx import ops
from featx_extractors.proposals import anchor_grid
from featx_extractors.training.matching import match, sample
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.options import TargetOptions
from featx_extractors.training.regions import Sampled, Truth, sample_regions, training_profile
from featx_extractors.weights.checkpoint import Weights4


class Losses:
    """The losses of a network under given options and delta weights."""

    def __init__(
        self, model: TrainableDetector, options: TargetOptions, delta_weights: Weights4, rpn_delta_weights: Weights4
    ) -> None:
        self.model, self.options = model, options
        self.delta_weights, self.rpn_delta_weights = delta_weights, rpn_delta_weights
        self.profile = training_profile(model.profile, options.proposals)

    def __call__(self, pixels: torch.Tensor, truths: Sequence[Truth]) -> dict[str, torch.Tensor]:
        """``loss`` and its parts of ``pixels [B, 3, H, W]`` (smaller pictures padded at right and bottom)."""
        res4, logits, deltas = self.model(pixels)
        anchors = anchor_grid(self.model.cell, *res4.shape[2:])
        parts = self.of_anchors(logits, deltas, anchors, truths)
        regions = sample_regions(
            logits.detach(), deltas.detach(), anchors, truths, self.profile, self.options,
            self.model.sizes.classes, self.rpn_delta_weights,
        )  # fmt: skip
        parts |= self.of_regions(self.model.region_features(res4, regions.rois), regions)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def of_anchors(
        self, logits: torch.Tensor, deltas: torch.Tensor, anchors: torch.Tensor, truths: Sequence[Truth]
    ) -> dict[str, torch.Tensor]:
        """Objectness and anchor deltas: logits ``[B, M]``, deltas ``[B, M, 4]``, anchors ``[M, 4]``."""
        objectness, shifts = logits.new_zeros(()), logits.new_zeros(())
        for lo, de, truth in zip(logits, deltas, truths, strict=True):
            objects, background, targets = self._anchor_targets(anchors, truth)
            rows = torch.cat([objects, background])
            wanted = (torch.arange(len(rows), device=rows.device) < len(objects)).to(lo)
            objectness = objectness + functional.binary_cross_entropy_with_logits(lo[rows], wanted, reduction="sum")
            shifts = shifts + smooth_l1(de[objects], targets, self.options.anchor_beta)
        count = len(truths) * self.options.anchor_sample
        return {"objectness": objectness / count, "anchor_boxes": shifts / count}

    @torch.no_grad()
    def _anchor_targets(self, anchors: torch.Tensor, truth: Truth) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows of the sampled object and background anchors, and the deltas of the former."""
        options, plus_one = self.options, self.profile.plus_one
        inside = _centred_inside(anchors, truth.frame.size).nonzero()[:, 0]  # inference never sees a batch's padding
        labels, targets = match(
            anchors[inside], truth.boxes, positive=options.anchor_positive, negative=options.anchor_negative,
            best_too=True, plus_one=plus_one,
        )  # fmt: skip
        objects, background = sample(labels, options.anchor_sample, options.anchor_share)
        boxes = truth.boxes[targets[objects]] if len(truth.boxes) else anchors[:0]
        objects, background = inside[objects], inside[background]
        return objects, background, ops.encode_deltas(anchors[objects], boxes, self.rpn_delta_weights, plus_one)

    def of_regions(self, features: torch.Tensor, regions: Sampled) -> dict[str, torch.Tensor]:
        """Classes, box deltas and attributes of the sampled regions, ``features [R, D]``."""
        predictor = self.model.roi_heads.box_predictor
        logits, deltas = predictor(features)
        shown, count = regions.is_object, max(len(features), 1)  # a batch may have no region at all
        parts = {"classes": functional.cross_entropy(logits, regions.classes, reduction="sum") / count}
        of_class = deltas.view(-1, self.model.sizes.classes, 4)[shown, regions.classes[shown]]
        wanted = ops.encode_deltas(
            regions.rois[shown, 1:], regions.boxes[shown], self.delta_weights, self.profile.plus_one
        )
        parts["boxes"] = smooth_l1(of_class, wanted, self.options.region_beta) / count
        if regions.attributes is not None:
            scores = predictor.attributes(features[shown], regions.classes[shown])
            loss = attribute_loss(scores, regions.attributes[shown])
            parts["attributes"] = loss * self.options.attribute_loss
        return parts


def smooth_l1(found: torch.Tensor, wanted: torch.Tensor, beta: float) -> torch.Tensor:
    """Sum of the smooth L1 distances (Girshick 2015); plain L1 for ``beta`` 0."""
    return functional.smooth_l1_loss(found, wanted, reduction="sum", beta=beta)


def attribute_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``logits [R, T + 1]`` against the distributions ``wanted [R, T + 1]``.

    Rows of zeros are left out, also of the mean, which is 0 when there is no other.
    """
    return -(wanted * logits.log_softmax(-1)).sum() / wanted.any(1).sum().clamp(min=1)


def attribute_targets(
    named: Sequence[Sequence[int]], attributes: int, order: str, unannotated: str = "learn"
) -> torch.Tensor:
    """Distributions ``[G, T + 1]`` over the attributes ``named`` of each box, in the order people named them.

    ``equal``: all have the same share; ``falling``: the n-th has one proportional to 1 / n. A box without any has all
    of it on "no attribute", the last column, or zeros when ``unannotated`` is ``ignore``.
    """
    wanted = torch.zeros(len(named), attributes + 1)
    for row, ids in zip(wanted, named, strict=True):
        for rank, number in enumerate(ids):
            row[number] += 1 / (1 + rank) if order == "falling" else 1.0
        if ids:
            row /= row.sum()
        elif unannotated == "learn":
            row[-1] = 1.0
    return wanted


def _centred_inside(anchors: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    return (centres < centres.new_tensor([size[1], size[0]])).all(1) & (centres >= 0).all(1)
