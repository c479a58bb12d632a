"""The network as it stands, judged by the code that will run it: the inference detector, on the exported tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from featx_extractors.detector import Detector, Regions
from featx_extractors.profiles import Profile
from featx_extractors.training.batches import frames_of
from featx_extractors.training.model import TrainableDetector
from featx_extractors.weights.normal import Weights

LIKELIEST = 16  # attributes of a box that are reported: as many as Visual Genome names at most
SCORE, NMS, MOST = 0.05, 0.5, 100  # of detections that count, as in Fast R-CNN and detectron2


def judging_profile(profile: Profile) -> Profile:
    """The profile with the selection that average precision is measured with: every class of every region competes."""
    return replace(
        profile, name=f"{profile.name}*", select="multilabel", thresholds=(NMS,), score_threshold=SCORE,
        boxes="regressed", final_clip=True, min_boxes=1, max_boxes=MOST,
    )  # fmt: skip


class Judge:
    """Detections of a model in training. The inference network is built anew whenever the tensors have changed."""

    def __init__(self, model: TrainableDetector, profile: Profile, weights: Callable[[], Weights]) -> None:
        self.model, self.profile, self.weights = model, judging_profile(profile), weights
        self._state: list[tuple[int, int]] = []
        self._detector: Detector | None = None

    def detections(self, batch: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        """One JSON-able mapping a picture: boxes ``[n][4]`` in pixels of the original, classes, scores, attributes
        ``[n][k]``, the k likeliest."""
        found = []
        with torch.autocast(batch["pixels"].device.type, enabled=False):
            for pixels, frame in zip(batch["pixels"], frames_of(batch), strict=True):
                height, width = frame.size  # inference never sees padding
                found += self.detector().detect(pixels[None, :, :height, :width].float(), [frame])
        return [self._described(regions) for regions in found]

    def detector(self) -> Detector:
        """The inference detector of the present tensors."""
        state = [(tensor.data_ptr(), tensor._version) for tensor in self.model.state_dict().values()]
        if self._detector is None or state != self._state:
            device = str(self.model.cell.device)
            self._detector, self._state = Detector(self.weights(), self.profile, device=device), state
        return self._detector

    def _described(self, regions: Regions) -> dict[str, Any]:
        return {
            "boxes": regions.regressed.tolist(),
            "classes": regions.object_ids.tolist(),
            "scores": regions.object_confs.tolist(),
            "attributes": self._attributes(regions),
        }

    @torch.inference_mode()
    def _attributes(self, regions: Regions) -> Sequence[Any]:
        predictor = self.detector().network.predictor
        said = predictor(regions.features.to(predictor.cls_score.weight.device)).attribute_logits
        if said is None:
            return [[] for _ in regions.features]
        # "no attribute" is the last column
        ids: list[Any] = said[:, :-1].topk(min(LIKELIEST, said.shape[1] - 1)).indices.tolist()
        return ids
