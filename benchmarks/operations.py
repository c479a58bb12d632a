"""How many operations the network needs, counted from the shapes of its layers: 2 for a multiplication and addition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featx_extractors.bottleneck import Bottleneck
from featx_extractors.conv import Conv
from featx_extractors.network import Network

Sides = tuple[int, int]


def operations(network: Network, size: Sides, regions: int, resolution: int) -> dict[str, float]:
    """Operations of one picture of ``size`` (height, width) by part of the network; res5 for ``regions`` of them."""
    trunk = network.trunk
    total, cells = _conv(trunk.stem, size)
    cells = tuple(_pooled(side, trunk.caffe_pool) for side in cells)  # type: ignore[assignment]
    counted = {"stem": total}
    for name in ("res2", "res3", "res4"):
        counted[name], cells = _stage(getattr(trunk, name), cells)
    head = network.proposal_head
    counted["rpn head"] = sum(_conv(c, cells)[0] for c in (head.conv, head.objectness_logits, head.anchor_deltas))
    counted["res5"] = regions * _stage(network.res5.blocks, (resolution, resolution))[0]
    linear = [m for m in network.predictor.modules() if hasattr(m, "in_features")]
    counted["predictor"] = regions * 2.0 * sum(m.weight.numel() for m in linear)
    return counted


def _pooled(side: int, caffe: bool) -> int:
    """Cells of the stem's max pool, 3 wide with stride 2."""
    return -(-(side - 3) // 2) + 1 if caffe else (side - 1) // 2 + 1


def _conv(conv: Conv, size: Sides) -> tuple[float, Sides]:
    kernel = (conv.weight.shape[2] - 1) * conv.dilation + 1
    height, width = ((side + 2 * conv.padding - kernel) // conv.stride + 1 for side in size)
    return 2.0 * conv.weight.numel() * height * width, (height, width)


def _stage(blocks: Iterable[Any], size: Sides) -> tuple[float, Sides]:
    total = 0.0
    for block in blocks:
        assert isinstance(block, Bottleneck)
        if block.shortcut is not None:
            total += _conv(block.shortcut, size)[0]
        for conv in (block.conv1, block.conv2, block.conv3):
            more, size = _conv(conv, size)
            total += more
    return total, size
