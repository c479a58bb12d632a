"""Detector: network plus profile. Inputs of equal shape in, kept regions with features out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import Any

import torch

from featx import ops
from featx.device import usable_device
from featx_extractors.memory import keep_freed_memory
from featx_extractors.network import STRIDE, Network, Predictions
from featx_extractors.precision import precision_of
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.proposals import Proposals, anchor_grid, propose
from featx_extractors.regions import SharedRegions
from featx_extractors.selection import Regression, Selection, best_class, select
from featx_extractors.superset import candidates
from featx_extractors.weights import Weights

ROI_CHUNK = 60  # regions that go through res5 together: 48 MB of float32 in, 96 MB out at 14 x 14; 300 in five
ANCHOR_GRIDS = 32  # shapes of res4 whose anchors are kept: 0.6 MB each for a photo
GPU_ROI_CHUNK = 300  # all of a picture: fewer leave a large GPU with idle processors


@dataclass(frozen=True)
class Regions:
    """n regions of one picture, in the order of the profile.

    features ``[n, D]`` float32; proposals, regressed ``[n, 4]`` float32 pixels of the original; object_ids,
    object_confs, attribute_ids, attribute_confs ``[n]`` (attributes None when the weights have none). marks: what a
    superset notes besides, by field.
    """

    features: torch.Tensor
    proposals: torch.Tensor
    regressed: torch.Tensor
    object_ids: torch.Tensor
    object_confs: torch.Tensor
    attribute_ids: torch.Tensor | None
    attribute_confs: torch.Tensor | None
    marks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Regions:
        """The same with ``change`` applied to every tensor."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "marks"}
        changed: dict[str, Any] = {name: None if v is None else change(v) for name, v in values.items()}
        return Regions(**changed, marks={name: change(value) for name, value in self.marks.items()})


class Detector:
    """A network on a device, run the way a profile says.

    ``precision`` is one of ``featx_extractors.precision``; ``roi_chunk`` None is what suits the device.
    """

    def __init__(
        self,
        weights: Weights,
        profile: Profile,
        *,
        device: str = "cpu",
        precision: str = "float32",
        roi_chunk: int | None = None,
    ) -> None:
        self.precision = precision_of(precision)
        self.profile, self.device = profile, usable_device(device)
        self.precision.check(self.device)
        self.roi_chunk = roi_chunk or (ROI_CHUNK if self.device.type == "cpu" else GPU_ROI_CHUNK)
        self.delta_weights = profile.delta_weights or weights.header.delta_weights
        if self.device.type == "cpu":
            keep_freed_memory()
        self.rpn_delta_weights = weights.header.rpn_delta_weights
        self.network = Network(weights.tensors, profile).eval()
        self.dtype = self.precision.dtype
        if self.dtype != torch.float32:
            self.network.convolve_in(self.dtype)
        self.network.to(self.device)
        self.shared: SharedRegions | None = None
        if self.device.type == "cpu" and profile.pooler == "pool":
            self.shared = SharedRegions(self.network.res5, profile, self.roi_chunk)
        self.anchors = lru_cache(ANCHOR_GRIDS)(partial(anchor_grid, self.network.proposal_head.cell_anchors))

    @torch.inference_mode()
    def detect(self, inputs: torch.Tensor, frames: Sequence[Frame]) -> list[Regions]:
        """Regions of each picture of ``inputs [B, 3, H, W]``, on the CPU."""
        with self.precision.flags(self.device):
            res4 = self.trunk(inputs)
            found = zip(res4.split(1), self.propose(res4, frames), frames, strict=True)
            return [self._regions(one, proposals, frame).each(torch.Tensor.cpu) for one, proposals, frame in found]

    @torch.inference_mode()
    def describe(self, inputs: torch.Tensor, frames: Sequence[Frame], given: Sequence[torch.Tensor]) -> list[Regions]:
        """Regions at ``given`` boxes, one ``[n, 4]`` float32 in pixels of the original for each picture; on the CPU.

        Fed the boxes that :meth:`detect` pooled from, it returns the same features bit for bit.
        """
        with self.precision.flags(self.device):
            res4 = self.trunk(inputs)
            told = zip(res4.split(1), given, frames, strict=True)
            found = (self._given(one, boxes.to(self.device), frame) for one, boxes, frame in told)
            return [regions.each(torch.Tensor.cpu) for regions in found]

    def trunk(self, inputs: torch.Tensor) -> torch.Tensor:
        """res4 ``[B, C, h, w]``, channels last."""
        out: torch.Tensor = self.network.trunk(inputs.to(self.device, self.dtype))
        return out

    def propose(self, res4: torch.Tensor, frames: Sequence[Frame]) -> list[Proposals]:
        """Proposals of every picture."""
        logits, deltas = self.network.proposal_head(res4)
        anchors = self.anchors(*res4.shape[2:])
        return [
            propose(lo, de, anchors, frame, self.profile, self.rpn_delta_weights)
            for lo, de, frame in zip(logits, deltas, frames, strict=True)
        ]

    def region_features(self, res4: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Features ``[R, D]`` float32 of ``boxes [R, 4]`` (input pixels) on one picture's ``res4 [1, C, h, w]``."""
        if not len(boxes):
            return torch.zeros(0, self.network.dim, device=res4.device)
        if self.shared is not None:
            return self.shared(res4, boxes)
        return torch.cat([self.network.res5(pooled) for pooled in self.pooled(res4, boxes)])

    def pooled(self, res4: torch.Tensor, boxes: torch.Tensor) -> Iterator[torch.Tensor]:
        """The pooled regions, ``roi_chunk`` at a time, so that memory does not grow with their number."""
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        size, scale = self.profile.resolution, 1 / STRIDE
        for chunk in rois.split(self.roi_chunk):
            if self.profile.pooler == "pool":
                yield ops.roi_pool(res4, chunk, size, scale)
            else:
                yield ops.roi_align(res4, chunk, size, scale, sampling_ratio=0, aligned=True)

    def _regions(self, res4: torch.Tensor, proposals: Proposals, frame: Frame) -> Regions:
        original = frame.to_original(proposals.boxes)
        regression, predictions = self._look(res4, original, frame)
        if self.profile.superset:
            kept, marks = candidates(regression, predictions, original)
            found = self._describe(regression, predictions, original, kept)
            return replace(found, marks=marks)
        kept = select(regression, predictions, original)
        if self.profile.drop_empty:
            # Features go with their boxes here; airsplay's fork drops the boxes alone, which shifts its rows.
            boxes = self._regressed(regression, kept)
            kept = kept.where(((boxes[:, 2:] - boxes[:, :2]) > 0).all(1))
        return self._describe(regression, predictions, original, kept)

    def _given(self, res4: torch.Tensor, original: torch.Tensor, frame: Frame) -> Regions:
        regression, predictions = self._look(res4, original, frame)
        confs, classes = best_class(predictions.probs)
        every = Selection(torch.arange(len(original), device=original.device), classes, confs, 0.0)
        return self._describe(regression, predictions, original, every)

    def _look(self, res4: torch.Tensor, original: torch.Tensor, frame: Frame) -> tuple[Regression, Predictions]:
        """What the head says at ``original`` boxes: what is stored, mapped to the input, is what is pooled."""
        boxes = frame.to_input(original)
        predictions: Predictions = self.network.predictor(self.region_features(res4, boxes))
        return Regression(boxes, predictions.deltas, self.delta_weights, frame, self.profile), predictions

    def _regressed(self, regression: Regression, kept: Selection) -> torch.Tensor:
        """Regressed boxes ``[n, 4]`` of the kept regions, in pixels of the original."""
        boxes = regression.frame.to_original(regression.boxes(kept.rows, kept.classes))
        return ops.clip_boxes(boxes, regression.frame.original) if self.profile.final_clip else boxes

    def _describe(
        self, regression: Regression, predictions: Predictions, original: torch.Tensor, kept: Selection
    ) -> Regions:
        ids, confs = self._attributes(predictions, kept.rows)
        return Regions(
            predictions.features[kept.rows],
            original[kept.rows],
            self._regressed(regression, kept),
            kept.classes,
            kept.confs,
            ids,
            confs,
        )

    def _attributes(
        self, predictions: Predictions, rows: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if predictions.attribute_logits is None:
            return None, None
        # Of all regions, then of those: what a region is given must not depend on which others were kept.
        logits = predictions.attribute_logits
        if self.profile.attribute_background:
            probs = logits.softmax(-1)[:, :-1]
        else:
            probs = logits[:, :-1].softmax(-1)
        confs, ids = probs.max(-1)
        return ids[rows], confs[rows]
