"""The block of a ResNet: 1x1, 3x3, 1x1 with a shortcut, batch norm folded in (He et al. 2016)."""

from __future__ import annotations

import torch
from torch import nn

from featx_extractors.conv import Conv, Tensors, folded
from featx_extractors.winograd import WinogradConv


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the stride sits in the first 1x1, as in the Caffe ResNet (STRIDE_IN_1X1)."""

    def __init__(self, tensors: Tensors, name: str, eps: float, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()

        def weights(leaf: str) -> tuple[torch.Tensor, torch.Tensor]:
            return folded(tensors, f"{name}.{leaf}", eps)

        has_shortcut = f"{name}.shortcut.weight" in tensors
        self.shortcut = Conv(*weights("shortcut"), stride=stride, relu=False) if has_shortcut else None
        self.conv1 = Conv(*weights("conv1"), stride=stride)
        self.conv2 = WinogradConv(*weights("conv2"), padding=dilation, dilation=dilation)
        self.conv3 = Conv(*weights("conv3"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv2(self.conv1(x))
        out: torch.Tensor = self.conv3(hidden, x if self.shortcut is None else self.shortcut(x))
        return out


def stage(tensors: Tensors, name: str, eps: float, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """All blocks ``name.0``, ``name.1``, ... ; only the first one has the stride."""
    blocks: list[nn.Module] = []
    while f"{name}.{len(blocks)}.conv1.weight" in tensors:
        first = stride if not blocks else 1
        blocks.append(Bottleneck(tensors, f"{name}.{len(blocks)}", eps, stride=first, dilation=dilation))
    return nn.Sequential(*blocks)
