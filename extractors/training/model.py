"""The detector's network as it is trained: the tensors of the normal form, with batch norm not yet folded.

Parameters and buffers carry exactly the names of :meth:`Architecture.shapes`, so that a state dict *is* the normal
form. In eval mode it computes what ``featx_extractors.network`` computes from the same tensors; a test holds the two
together. He et al. 2016 (ResNet), Ren et al. 2015 (Faster R-CNN), Anderson et al. 2018 (attribute head).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn import functional

from featx import ops
from featx_extractors.network import STRIDE
from featx_extractors.profiles import Profile
from featx_extractors.weights.architecture import Architecture

MOMENTUM = 0.1  # of the running statistics: the share of the newest batch


class Norm(nn.Module):
    """Batch norm whose state is the four leaves of the normal form. ``frozen``: statistics and scale stay as loaded."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, eps: float, frozen: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=not frozen)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=not frozen)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps, self.frozen = eps, frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training and not self.frozen, momentum=MOMENTUM, eps=self.eps,
        )  # fmt: skip


class NormedConv(nn.Module):
    """A square convolution without bias, then batch norm."""

    def __init__(
        self, inner: int, out: int, kernel: int, profile: Profile, frozen: bool, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, inner, kernel, kernel, memory_format=torch.channels_last))
        self.norm = Norm(out, profile.norm_eps, frozen)
        self.stride, self.padding, self.dilation = stride, kernel // 2 * dilation, dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(functional.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride sits in the first 1x1, as at inference."""

    def __init__(
        self,
        inner: int,
        width: int,
        out: int,
        profile: Profile,
        frozen: bool,
        *,
        first: bool,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        self.shortcut = NormedConv(inner, out, 1, profile, frozen, stride=stride) if first else None
        self.conv1 = NormedConv(inner, width, 1, profile, frozen, stride=stride)
        self.conv2 = NormedConv(width, width, 3, profile, frozen, dilation=dilation)
        self.conv3 = NormedConv(width, out, 1, profile, frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return functional.relu(self.conv3(hidden) + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """7x7 convolution with stride 2 and the max pool of the profile."""

    def __init__(self, channels: int, profile: Profile, frozen: bool) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, channels, 7, profile, frozen, stride=2)
        self.caffe_pool = profile.stem_pool == "caffe"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.conv1(x.contiguous(memory_format=torch.channels_last)))
        if self.caffe_pool:
            return functional.max_pool2d(x, 3, 2, 0, ceil_mode=True)
        return functional.max_pool2d(x, 3, 2, 1)


class Backbone(nn.Module):
    """Stem and res2 to res4: ``[B, 3, H, W]`` -> ``[B, C, ceil(H/16), ceil(W/16)]``."""

    def __init__(self, sizes: Architecture, profile: Profile, frozen: bool) -> None:
        super().__init__()
        self.stem = Stem(sizes.stem, profile, frozen)
        self.res2 = _stage(sizes, 0, profile, frozen, stride=1)
        self.res3 = _stage(sizes, 1, profile, frozen, stride=2)
        self.res4 = _stage(sizes, 2, profile, frozen, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.res4(self.res3(self.res2(self.stem(x))))
        return out


class CellAnchors(nn.Module):
    """The ``[A, 4]`` anchors of one position, stored with the weights and never trained."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.cell_anchors = nn.Module()
        self.cell_anchors.register_buffer("0", torch.zeros(count, 4))

    @property
    def cell(self) -> torch.Tensor:
        """``[A, 4]`` float32."""
        return self.cell_anchors.get_buffer("0")


class ProposalGenerator(nn.Module):
    """``[B, C, h, w]`` -> objectness logits ``[B, hwA]`` and deltas ``[B, hwA, 4]``, rows in (y, x, anchor) order."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.anchor_generator = CellAnchors(sizes.anchors)
        self.rpn_head = nn.ModuleDict(
            {
                "conv": nn.Conv2d(sizes.out * 4, sizes.rpn_hidden, 3, padding=1),
                "objectness_logits": nn.Conv2d(sizes.rpn_hidden, sizes.anchors, 1),
                "anchor_deltas": nn.Conv2d(sizes.rpn_hidden, 4 * sizes.anchors, 1),
            }
        )

    def forward(self, res4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        head = self.rpn_head
        hidden = functional.relu(head["conv"](res4))
        logits = head["objectness_logits"](hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = head["anchor_deltas"](hidden).permute(0, 2, 3, 1).flatten(1)
        return logits.float(), deltas.float().view(len(deltas), -1, 4)


class BoxPredictor(nn.Module):
    """Features ``[R, D]`` -> classes ``[R, C + 1]``, box deltas ``[R, 4C]``, attributes ``[R, T + 1]``."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.cls_score = nn.Linear(sizes.dim, sizes.classes + 1)
        self.bbox_pred = nn.Linear(sizes.dim, 4 * sizes.classes)
        self.has_attributes = sizes.attributes > 0
        if self.has_attributes:
            self.cls_embedding = nn.Embedding(sizes.classes + 1, sizes.embedding)
            self.fc_attr = nn.Linear(sizes.dim + sizes.embedding, sizes.attribute_hidden)
            self.attr_score = nn.Linear(sizes.attribute_hidden, sizes.attributes + 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cls_score(features).float(), self.bbox_pred(features).float()

    def attributes(self, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Attribute logits ``[R, T + 1]``, "no attribute" last, of regions that show ``classes [R]``."""
        joined = torch.cat([features, self.cls_embedding(classes).to(features)], -1)
        return self.attr_score(functional.relu(self.fc_attr(joined))).float()  # type: ignore[no-any-return]


class RoIHeads(nn.Module):
    """res5 over pooled regions, the mean over their cells, and the predictor."""

    def __init__(self, sizes: Architecture, profile: Profile, frozen: bool) -> None:
        super().__init__()
        dilated = profile.res5 == "dilated"
        self.res5 = _stage(sizes, 3, profile, frozen, stride=1 if dilated else 2, dilation=2 if dilated else 1)
        self.box_predictor = BoxPredictor(sizes)


class TrainableDetector(nn.Module):
    """The whole network. ``frozen_norm`` is for weights whose batch norm was trained elsewhere on large batches."""

    def __init__(self, sizes: Architecture, profile: Profile, *, frozen_norm: bool = False) -> None:
        super().__init__()
        self.sizes, self.profile = sizes, profile
        self.backbone = Backbone(sizes, profile, frozen_norm)
        self.proposal_generator = ProposalGenerator(sizes)
        self.roi_heads = RoIHeads(sizes, profile, frozen_norm)

    @property
    def cell(self) -> torch.Tensor:
        """Anchors of one position, ``[A, 4]``."""
        return self.proposal_generator.anchor_generator.cell

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """res4 ``[B, C, h, w]``, objectness logits ``[B, hwA]`` and deltas ``[B, hwA, 4]`` of ``[B, 3, H, W]``."""
        res4 = self.backbone(pixels)
        return (res4, *self.proposal_generator(res4))

    def region_features(self, res4: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Features ``[R, D]`` float32 of ``rois [R, 5]`` (picture, x0, y0, x1, y1 in input pixels)."""
        size, scale = self.profile.resolution, 1 / STRIDE
        if self.profile.pooler == "pool":
            pooled = ops.roi_pool(res4, rois, size, scale)
        else:
            pooled = ops.roi_align(res4, rois, size, scale, sampling_ratio=0, aligned=True)
        out: torch.Tensor = self.roi_heads.res5(pooled).float().mean((2, 3))
        return out

    def tensors(self) -> dict[str, torch.Tensor]:
        """A copy of the state as the tensors of the normal form: float32, contiguous, CPU."""
        return {
            name: tensor.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
            for name, tensor in self.state_dict().items()
        }

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take tensors of the normal form, each of them."""
        self.load_state_dict(dict(tensors), strict=True)

    def freeze(self, stages: int) -> None:
        """Keep the first ``stages`` of stem, res2, res3 and res4 as they are (detectron2's FREEZE_AT)."""
        parts = (self.backbone.stem, self.backbone.res2, self.backbone.res3, self.backbone.res4)
        for part in parts[:stages]:
            for module in part.modules():
                if isinstance(module, Norm):
                    module.frozen = True
            part.requires_grad_(False)


def _stage(
    sizes: Architecture, level: int, profile: Profile, frozen: bool, *, stride: int, dilation: int = 1
) -> nn.Sequential:
    return nn.Sequential(*_blocks(sizes, level, profile, frozen, stride, dilation))


def _blocks(
    sizes: Architecture, level: int, profile: Profile, frozen: bool, stride: int, dilation: int
) -> Iterator[Bottleneck]:
    width, out = sizes.width << level, sizes.out << level
    inner = out // 2 if level else sizes.stem
    for block in range(sizes.blocks[level]):
        first = block == 0
        yield Bottleneck(
            inner if first else out, width, out, profile, frozen,
            first=first, stride=stride if first else 1, dilation=dilation,
        )  # fmt: skip
