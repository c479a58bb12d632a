"""The ResNet-C4 Faster R-CNN of bottom-up attention: trunk, proposal head, region head.

Networks: Anderson et al. 2018 (bottom-up attention), Ren et al. 2015 (Faster R-CNN), He et al. 2016 (ResNet). Tensor
names are detectron2's. Everything here is dense arithmetic; choosing boxes is ``proposals`` and ``selection``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from featx_extractors.bottleneck import stage
from featx_extractors.conv import Conv, Tensors, folded
from featx_extractors.profiles import Profile
from featx_extractors.weights.architecture import CELL_ANCHORS
from featx_extractors.winograd import WinogradConv

STRIDE = 16  # input pixels per cell of res4
LEAST_SIDE = 3  # input pixels: less leaves the stem's pool without a window


class Trunk(nn.Module):
    """Stem and res2 to res4: ``[B, 3, H, W]`` -> ``[B, C, ceil(H/16), ceil(W/16)]``, channels last."""

    def __init__(self, tensors: Tensors, profile: Profile) -> None:
        super().__init__()
        eps = profile.norm_eps
        self.stem = Conv(*folded(tensors, "backbone.stem.conv1", eps), stride=2, padding=3)
        self.res2 = stage(tensors, "backbone.res2", eps)
        self.res3 = stage(tensors, "backbone.res3", eps, stride=2)
        self.res4 = stage(tensors, "backbone.res4", eps, stride=2)
        self.caffe_pool = profile.stem_pool == "caffe"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.res4(self.res3(self.res2(self.pooled_stem(x))))
        return out

    def pooled_stem(self, x: torch.Tensor) -> torch.Tensor:
        """The stem with its max pool; Caffe's pool has no padding and rounds the size up."""
        height, width = x.shape[2:]
        if min(height, width) < LEAST_SIDE:
            x = functional.pad(x, (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height)))
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        if self.caffe_pool:
            return functional.max_pool2d(x, 3, 2, 0, ceil_mode=True)
        return functional.max_pool2d(x, 3, 2, 1)


class ProposalHead(nn.Module):
    """``[B, C, h, w]`` -> objectness logits ``[B, hwA]`` and deltas ``[B, hwA, 4]``, rows in (y, x, anchor) order."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        head = "proposal_generator.rpn_head"

        def conv(leaf: str, padding: int = 0, relu: bool = False) -> Conv:
            name = f"{head}.{leaf}"
            kind = WinogradConv if padding else Conv
            return kind(tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=padding, relu=relu)

        self.conv = conv("conv", padding=1, relu=True)
        self.objectness_logits = conv("objectness_logits")
        self.anchor_deltas = conv("anchor_deltas")
        self.cell_anchors: torch.Tensor
        self.register_buffer("cell_anchors", tensors[CELL_ANCHORS].float())

    def forward(self, res4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.conv(res4)
        logits = self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1).flatten(1)
        return logits.float(), deltas.float().view(len(deltas), -1, 4)


class Predictions(NamedTuple):
    """What the region head says of R regions.

    features ``[R, D]``; probs ``[R, C + 1]`` softmax, background last; deltas ``[R, 4C]``; class_logits ``[R, C + 1]``;
    attribute_logits ``[R, T + 1]`` or None, "no attribute" last.
    """

    features: torch.Tensor
    class_logits: torch.Tensor
    probs: torch.Tensor
    deltas: torch.Tensor
    attribute_logits: torch.Tensor | None


class Res5(nn.Module):
    """Pooled regions ``[R, C, 14, 14]`` -> features ``[R, D]``: three bottlenecks, then the mean over the cells."""

    def __init__(self, tensors: Tensors, profile: Profile) -> None:
        super().__init__()
        dilated = profile.res5 == "dilated"
        self.blocks = stage(
            tensors, "roi_heads.res5", profile.norm_eps, stride=1 if dilated else 2, dilation=2 if dilated else 1
        )

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.blocks(pooled)
        return out.float().mean((2, 3))


class Predictor(nn.Module):
    """Features ``[R, D]`` -> classes, box deltas and attributes.

    The attribute head sees the embedding of the best class *including background* (Anderson et al. 2018).
    """

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        head = "roi_heads.box_predictor"

        def linear(leaf: str) -> nn.Linear:
            weight, bias = tensors[f"{head}.{leaf}.weight"], tensors[f"{head}.{leaf}.bias"]
            layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # no time spent on random values
            layer.weight = nn.Parameter(weight.float(), requires_grad=False)
            layer.bias = nn.Parameter(bias.float(), requires_grad=False)
            return layer

        self.cls_score = linear("cls_score")
        self.bbox_pred = linear("bbox_pred")
        self.has_attributes = f"{head}.attr_score.weight" in tensors
        if self.has_attributes:
            self.cls_embedding = nn.Embedding.from_pretrained(tensors[f"{head}.cls_embedding.weight"].float())
            self.fc_attr = linear("fc_attr")
            self.attr_score = linear("attr_score")

    def forward(self, features: torch.Tensor) -> Predictions:
        logits = self.cls_score(features)
        probs = logits.softmax(-1)
        deltas = self.bbox_pred(features)
        return Predictions(features, logits, probs, deltas, self.attribute_logits(features, logits))

    def attribute_logits(self, features: torch.Tensor, class_logits: torch.Tensor) -> torch.Tensor | None:
        """Attribute logits ``[R, T + 1]``, or None for weights without attributes."""
        if not self.has_attributes:
            return None
        embedded = self.cls_embedding(class_logits.argmax(-1))
        hidden = functional.relu(self.fc_attr(torch.cat([features, embedded], -1)))
        out: torch.Tensor = self.attr_score(hidden)
        return out


class Network(nn.Module):
    """The four pieces, built from tensors in the normal form (``featx_extractors.weights``)."""

    def __init__(self, tensors: Tensors, profile: Profile) -> None:
        super().__init__()
        self.trunk = Trunk(tensors, profile)
        self.proposal_head = ProposalHead(tensors)
        self.res5 = Res5(tensors, profile)
        self.predictor = Predictor(tensors)

    @property
    def dim(self) -> int:
        """D, the length of a region feature."""
        return self.predictor.cls_score.in_features

    def convolve_in(self, dtype: torch.dtype) -> Network:
        """Run the convolutions in ``dtype`` (float32 sums); anchors, proposals and the predictor stay float32."""
        for part in (self.trunk, self.res5, self.proposal_head):
            for module in part.modules():
                if isinstance(module, Conv):
                    module.to(dtype)
        return self
