"""Selection: which regions of a picture are kept, under which class, in which order.

Three rules are in use. *classwise* (Caffe, MILVLG, the published LXMERT features): NMS on the proposals class by class,
keep by the best class score that survives. *maxnms* (airsplay's COCO script, the Hugging Face demo): one NMS on the
regressed box of each region's best class, its threshold rising until enough survive. *multilabel* (detectron2,
airsplay's notebooks): every class above a score competes, so a region may appear under two classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from featx import ops
from featx_extractors.network import Predictions
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.proposals import CLAMP
from featx_extractors.weights.checkpoint import Weights4


class Selection(NamedTuple):
    """n kept regions: rows ``[n]`` int64 of the proposals, classes ``[n]`` int64, confs ``[n]``, NMS threshold used."""

    rows: torch.Tensor
    classes: torch.Tensor
    confs: torch.Tensor
    threshold: float

    def where(self, mask: torch.Tensor) -> Selection:
        """Only the regions for which ``mask [n]`` is True."""
        return self._replace(rows=self.rows[mask], classes=self.classes[mask], confs=self.confs[mask])


class Regression(NamedTuple):
    """What makes a box of a region and a class: regions ``[R, 4]`` input pixels, deltas ``[R, 4C]``, their weights."""

    regions: torch.Tensor
    deltas: torch.Tensor
    weights: Weights4
    frame: Frame
    profile: Profile

    def boxes(self, rows: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Regressed, clipped boxes ``[n, 4]`` in input pixels of ``rows`` under ``classes``."""
        deltas = self.deltas.view(len(self.deltas), self.deltas.shape[1] // 4, 4)[rows, classes]
        plus_one = self.profile.plus_one
        clamp = CLAMP if self.profile.clamp else None
        boxes = ops.decode_deltas(deltas, self.regions[rows], self.weights, clamp=clamp, plus_one=plus_one)
        return ops.clip_boxes(boxes, self.frame.size, inclusive=plus_one)


def select(regression: Regression, predictions: Predictions, original_boxes: torch.Tensor) -> Selection:
    """Apply the profile's rule. ``original_boxes [R, 4]`` are the proposals in pixels of the original."""
    profile = regression.profile
    if profile.select == "classwise":
        return _classwise(original_boxes, predictions.probs, profile)
    if profile.select == "maxnms":
        return _maxnms(regression, predictions.probs)
    return _multilabel(regression, predictions.probs)


def best_class(probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Confidence ``[R]`` and id ``[R]`` of the best foreground class; background is the last column."""
    confs, classes = probs[:, :-1].max(1)
    return confs, classes


def _classwise(boxes: torch.Tensor, probs: torch.Tensor, profile: Profile) -> Selection:
    rows, _ = ops.select_boxes(
        boxes, probs, nms_threshold=profile.thresholds[0], score_threshold=profile.score_threshold,
        min_boxes=profile.min_boxes, max_boxes=profile.max_boxes,
        inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
    )  # fmt: skip
    # The id is the row's best class, not the one whose NMS it survived (generate_tsv of the Caffe original).
    confs, classes = best_class(probs)
    return Selection(rows, classes[rows], confs[rows], profile.thresholds[0])


def _maxnms(regression: Regression, probs: torch.Tensor) -> Selection:
    profile, found = regression.profile, competing(regression, probs)
    kept, threshold = ops.select_maxnms(
        found.boxes, found.confs, profile.thresholds, min_boxes=profile.min_boxes, max_boxes=profile.max_boxes,
        inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
    )  # fmt: skip
    return Selection(found.rows[kept], found.classes[kept], found.confs[kept], threshold)


def _multilabel(regression: Regression, probs: torch.Tensor) -> Selection:
    profile, found = regression.profile, competing(regression, probs)
    threshold, keep = profile.thresholds[-1], torch.empty(0, dtype=torch.int64)
    for threshold in profile.thresholds:
        keep = found.survivors(threshold, profile)[: profile.max_boxes]
        if len(keep) >= profile.min_boxes:
            break
    return Selection(found.rows[keep], found.classes[keep], found.confs[keep], threshold)


class Competing(NamedTuple):
    """What the final NMS of maxnms and multilabel is about: M regions under a class, boxes ``[M, 4]`` input pixels."""

    rows: torch.Tensor
    classes: torch.Tensor
    confs: torch.Tensor
    boxes: torch.Tensor

    def survivors(self, threshold: float, profile: Profile) -> torch.Tensor:
        """Which of them survive, by falling confidence; equals keep their order. maxnms asks no class."""
        rule = {"inclusive": profile.nms_inclusive, "plus_one": profile.plus_one}
        if profile.select == "maxnms":
            return ops.nms(self.boxes, self.confs, threshold, **rule)
        return ops.batched_nms(self.boxes, self.confs, self.classes, threshold, **rule)


def competing(regression: Regression, probs: torch.Tensor) -> Competing:
    """Every region under its best class (maxnms), or under every class above the score threshold (multilabel)."""
    profile = regression.profile
    if profile.select == "maxnms":
        confs, classes = best_class(probs)
        rows = torch.arange(len(probs), device=probs.device)
    else:
        rows, classes = (probs[:, :-1] > profile.score_threshold).nonzero(as_tuple=True)
        confs = probs[rows, classes]
    return Competing(rows, classes, confs, regression.boxes(rows, classes))
