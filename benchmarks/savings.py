"""Operations that featx does on a picture, noted as its convolutions run, beside those of the plain network.

2 for a multiplication and addition. Of Winograd's way its products count, which are most of it, without transforms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from benchmarks.operations import operations
from featx import ops
from featx_extractors.conv import Conv
from featx_extractors.detector import Detector


def done(detector: Detector, x: torch.Tensor, proposals: torch.Tensor) -> dict[str, float]:
    """Operations by stage for one input ``x [1, 3, H, W]`` with these ``proposals [R, 4]`` (input pixels)."""
    network, counted = detector.network, dict[str, float]()
    head = detector.shared.blocks if detector.shared is not None else network.res5.blocks
    parts: dict[str, Iterable[Any]] = {
        name: [getattr(network.trunk, name)] for name in ("stem", "res2", "res3", "res4")
    }
    parts |= {"rpn head": [network.proposal_head], "res5": head}
    hooks = []
    for name, modules in parts.items():
        for conv in (m for module in modules for m in module.modules() if isinstance(m, Conv)):

            def note(conv: Any, args: Any, out: Any, name: str = name) -> None:
                counted[name] = counted.get(name, 0.0) + _operations(conv, args[0])

            hooks.append(conv.register_forward_hook(note))
    res4 = detector.trunk(x)
    network.proposal_head(res4)
    detector.region_features(res4, proposals)
    for hook in hooks:
        hook.remove()
    return counted


def plain(detector: Detector, x: torch.Tensor, regions: int) -> dict[str, float]:
    """The same of the network as it is published."""
    height, width = x.shape[2:]
    return operations(detector.network, (height, width), regions, detector.profile.resolution)


def _operations(conv: Conv, x: torch.Tensor) -> float:
    count, _, height, width = x.shape
    outputs, channels, kernel, _ = conv.weight.shape
    pays = getattr(conv, "pays", None)
    if pays is not None and pays(x):
        taps = _products(height, conv.dilation) * _products(width, conv.dilation)
    else:
        reach = (kernel - 1) * conv.dilation + 1
        high, wide = ((side + 2 * conv.padding - reach) // conv.stride + 1 for side in (height, width))
        taps = kernel**2 * high * wide
    return 2.0 * count * outputs * channels * taps


def _products(side: int, dilation: int) -> int:
    """Products on one axis, over its planes: 6 for a tile of 4 outputs, 5 for one of 3."""
    total = 0
    for phase in range(dilation):
        length = len(range(phase, side, dilation))
        tiles = -(-length // 4)
        total += 5 * tiles + max(0, length - 3 * tiles)
    return total


def regions_of_all_sizes(size: tuple[int, int], count: int = 300) -> torch.Tensor:
    """``[count, 4]`` boxes in a picture of ``size`` (height, width), drawn: sides from a 16th of it to all of it.

    The weights of the benchmark are not trained, and propose small regions, which share more than a trained network's.
    """
    generator = torch.Generator().manual_seed(7)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float32)
    sides = extent * 16 ** -torch.rand(20 * count, 2, generator=generator)
    corners = torch.rand(20 * count, 2, generator=generator) * (extent - sides)
    boxes = torch.cat([corners, corners + sides], 1)
    return boxes[ops.nms(boxes, torch.arange(len(boxes), 0.0, -1), 0.7)[:count]]


def sharing(detector: Detector, boxes: torch.Tensor, res4: torch.Tensor) -> str:
    """How much of res5's first block, and of its planes, ``boxes`` have in common."""
    from featx_extractors import regions

    cells, resolution = (res4.shape[2], res4.shape[3]), detector.profile.resolution
    planes = regions.planes_of(boxes, cells, resolution, step=2, phases=2)
    windows = planes.windows().flatten(0, 1)
    bins = len(boxes) * resolution**2
    distinct = len(regions.shared(windows, cells)[0])
    shares = (
        f"{distinct} of {bins} windows ({distinct / bins:.0%}), {len(planes.tops)} of {planes.owners.numel()} planes"
    )
    return f"{len(boxes)} regions: {shares}"
