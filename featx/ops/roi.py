"""Pooling of a region of a feature map to a fixed grid: RoIPool (legacy rounding) and RoIAlign, with gradients.

Legend of the shapes: B pictures, C channels, H x W feature map, K regions, P x Q output grid. A region is a row
``picture, x0, y0, x1, y1``; its box is in pixels of the picture, and ``scale`` maps pixels to the feature map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from featx.errors import UsageError
from featx.ops.checks import expect, expect_dtype
from featx.ops.library import differentiable
from featx.ops.roi_reference import arithmetic


def roi_pool(features: Tensor, rois: Tensor, output_size: int | tuple[int, int], scale: float) -> Tensor:
    """Maximum over each bin of each region: RoIPool of Fast R-CNN (Girshick 2015), rounding as its caffe layer does.

    Corners are ``round(x * scale)``, half away from zero; the window spans ``max(x1 - x0 + 1, 1)`` feature pixels;
    bin i covers ``floor(i * s)`` to ``ceil((i + 1) * s)``, s = window / bins in float32; an empty bin is 0.
    The gradient goes to the first maximum of a bin, rows first. A NaN in a bin is its maximum.

    features: [B, C, H, W], float32, float64, float16 or bfloat16, contiguous or channels_last. rois: [K, 5].
    Returns [K, C, P, Q] in the dtype and memory format of ``features``. A region of a picture that is not there raises
    UsageError on the CPU and is NaN on a GPU (checking it would stall the stream).
    """
    height, width = _check(features, rois, output_size)
    result: Tensor = torch.ops.featx.roi_pool(features, rois.float(), height, width, scale)
    return result


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Mean of bilinear samples of each bin: RoIAlign of Mask R-CNN (He et al. 2017).

    ``sampling_ratio`` samples per bin and axis; 0 takes ``ceil(region / bins)``. ``aligned`` shifts by half a feature
    pixel, so that pixel centres are at .5; without it regions are at least one feature pixel wide and high. A sample
    more than one pixel outside the map is 0. Other arguments and the result as for :func:`roi_pool`.
    """
    height, width = _check(features, rois, output_size)
    if sampling_ratio < 0:
        raise UsageError(f"sampling_ratio is {sampling_ratio}, expected 0 (adaptive) or more")
    rois = rois.to(arithmetic(features))
    result: Tensor = torch.ops.featx.roi_align(features, rois, height, width, scale, sampling_ratio, aligned)
    return result


def _check(features: Tensor, rois: Tensor, output_size: int | tuple[int, int]) -> tuple[int, int]:
    expect("features", features, ("B", "C", "H", "W"))
    expect_dtype("features", features, torch.float32, torch.float64, torch.float16, torch.bfloat16)
    expect("rois", rois, ("K", 5), "rows picture, x0, y0, x1, y1")
    if rois.device != features.device:
        raise UsageError(f"rois is on {rois.device}, features on {features.device}", "move them to one device")
    height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
    if height < 1 or width < 1:
        raise UsageError(f"output_size is {height} x {width}, expected at least 1 x 1")
    if rois.is_cpu and len(rois) and not torch.compiler.is_compiling():
        low, high = (float(picture) for picture in rois[:, 0].aminmax())
        if not 0 <= low <= high < len(features):
            found = f"{low:g} to {high:g}, features has {len(features)}"
            raise UsageError(f"rois name pictures {found}", "column 0 is the picture, from 0")
    return height, width


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, *ctx.how = inputs
    ctx.save_for_backward(features, rois)


def _pool_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.featx.roi_pool_backward(grad, *ctx.saved_tensors, *ctx.how), None, None, None, None


def _align_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.featx.roi_align_backward(grad, *ctx.saved_tensors, *ctx.how), None, None, None, None, None, None


differentiable("roi_pool", _pool_gradient, _save)
differentiable("roi_align", _align_gradient, _save)
