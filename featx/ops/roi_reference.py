"""RoIPool and RoIAlign in plain torch: the oracle of the compiled kernels, and what runs where there are none.

Legend of the shapes: B pictures, C channels, H x W feature map, K regions, P x Q output grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from featx.ops.library import operator

_CHUNK = 8  # regions gathered at a time; bounds the memory
_FARTHEST = 1e8  # corners are cut to this many feature pixels, so that integers cannot overflow


def arithmetic(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def in_format_of(features: Tensor) -> torch.memory_format:
    """channels_last only where that is not also plain contiguous, as for one channel."""
    last = features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _fake_pooled(features: Tensor, rois: Tensor, height: int, width: int, *rest: object) -> Tensor:
    shape = (rois.shape[0], features.shape[1], height, width)
    return torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=in_format_of(features))


def _fake_gradient(grad: Tensor, features: Tensor, *rest: object) -> Tensor:
    return torch.empty(
        features.shape, dtype=features.dtype, device=features.device, memory_format=in_format_of(features)
    )


def _pictures(rois: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Picture of each region as a safe index [K], and whether it is there [K]."""
    there = (rois[:, 0] >= 0) & (rois[:, 0] < len(features))
    return torch.where(there, rois[:, 0], 0).long(), there


# --- RoIPool -------------------------------------------------------------------------------------------------------


def round_half_away(x: Tensor) -> Tensor:
    """C ``round``: torch.round takes halves to even."""
    whole = x.trunc()
    return whole + ((x - whole) * 2).trunc()


def pool_bins(low: Tensor, high: Tensor, scale: float, bins: int, limit: int) -> tuple[Tensor, Tensor]:
    """First and past-last index [K, bins] of the bins between pixel coordinates ``low`` and ``high`` [K] (float32)."""
    start, end = (round_half_away(x * scale).clamp(-_FARTHEST, _FARTHEST).nan_to_num(-_FARTHEST) for x in (low, high))
    step = (end - start + 1).clamp(min=1) / bins
    i = torch.arange(bins, dtype=torch.float32, device=low.device)
    first = torch.floor(i * step[:, None]) + start[:, None]
    last = torch.ceil((i + 1) * step[:, None]) + start[:, None]
    return first.clamp(0, limit).long(), last.clamp(0, limit).long()


def _steps(first: Tensor, last: Tensor, limit: int) -> list[Tensor]:
    """Indices [k, bins] of the 1st, 2nd, ... element of every bin; a bin that is shorter repeats its last one."""
    longest = int((last - first).max()) if first.numel() else 0
    return [torch.minimum(first + i, last - 1).clamp(0, limit - 1) for i in range(longest)]


def _pool_windows(
    features: Tensor, rois: Tensor, height: int, width: int, scale: float
) -> Iterator[tuple[slice, Iterator[tuple[Tensor, Tensor]], Tensor]]:
    """Per chunk of regions: the candidates of all bins (values [k, P, Q, C], places [k, P, Q, 1]), and the bins filled.

    Candidates come rows first; places are flat indices into [B, H, W].
    """
    rows, columns = features.shape[2:]
    picture, _ = _pictures(rois, features)
    tops = pool_bins(rois[:, 2], rois[:, 4], scale, height, rows)
    lefts = pool_bins(rois[:, 1], rois[:, 3], scale, width, columns)
    for at in range(0, len(rois), _CHUNK):
        chunk = slice(at, at + _CHUNK)
        top, bottom, left, right = tops[0][chunk], tops[1][chunk], lefts[0][chunk], lefts[1][chunk]
        filled = (bottom > top)[:, :, None, None] & (right > left)[:, None, :, None]
        b = picture[chunk, None, None]
        pairs = product(_steps(top, bottom, rows), _steps(left, right, columns))
        places = ((y[:, :, None], x[:, None, :]) for y, x in pairs)
        yield chunk, ((features[b, :, y, x], ((b * rows + y) * columns + x)[..., None]) for y, x in places), filled


@operator(
    "roi_pool(Tensor features, Tensor rois, int height, int width, float scale) -> Tensor",
    fake=_fake_pooled,
)
def roi_pool_reference(features: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    """Oracle and fallback of :func:`featx.ops.roi_pool`."""
    result = _fake_pooled(features, rois, height, width).zero_()
    for chunk, candidates, filled in _pool_windows(features, rois, height, width, scale):
        best = reduce(torch.maximum, (value for value, _ in candidates), features.new_tensor(-torch.inf))
        result[chunk] = torch.where(filled, best, 0).permute(0, 3, 1, 2)
    result[~_pictures(rois, features)[1]] = torch.nan
    return result


@operator(
    "roi_pool_backward(Tensor grad, Tensor features, Tensor rois, int height, int width, float scale) -> Tensor",
    fake=_fake_gradient,
)
def roi_pool_backward_reference(
    grad: Tensor, features: Tensor, rois: Tensor, height: int, width: int, scale: float
) -> Tensor:
    """Oracle and fallback of the gradient. It looks for the maxima again, so the forward pass need not keep them."""
    pictures, channels, rows, columns = features.shape
    total = torch.zeros(pictures * rows * columns, channels, dtype=arithmetic(features), device=features.device)
    there = _pictures(rois, features)[1]
    for chunk, candidates, filled in _pool_windows(features, rois, height, width, scale):
        best = features.new_tensor(-torch.inf)
        place = torch.zeros_like(rois[:0, 0], dtype=torch.int64).sum()
        for index, (value, here) in enumerate(candidates):
            better = (value > best) | (value.isnan() & ~best.isnan()) | (index == 0)
            best, place = torch.where(better, value, best), torch.where(better, here, place)
        share = grad[chunk].permute(0, 2, 3, 1) * (filled & there[chunk, None, None, None])
        total.scatter_add_(0, place.expand(share.shape).reshape(-1, channels), share.reshape(-1, channels).to(total))
    result = total.view(pictures, rows, columns, channels).permute(0, 3, 1, 2).to(features.dtype)
    return result.contiguous(memory_format=in_format_of(features))


# --- RoIAlign ------------------------------------------------------------------------------------------------------


def _axis_weights(start: Tensor, size: Tensor, bins: int, ratio: int, limit: int) -> Tensor:
    """Weight of every feature row (or column) in every bin: [K, bins, limit]. Bilinear sampling is separable."""
    step = size / bins
    grid = torch.full_like(step, ratio) if ratio else step.ceil()
    samples = int(grid.max().clamp(min=0)) if len(grid) else 0
    i = torch.arange(samples, dtype=start.dtype, device=start.device)
    p = torch.arange(bins, dtype=start.dtype, device=start.device)[:, None]
    step, grid = step[:, None, None], grid[:, None, None]
    at = start[:, None, None] + p * step + (i + 0.5) * step / grid  # [K, bins, samples]
    share = ((at >= -1) & (at <= limit) & (i < grid)).to(at) / grid.clamp(min=1)
    at = at.nan_to_num().clamp(0, limit - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=limit - 1)
    weights = at.new_zeros(len(start), bins, limit)
    weights.scatter_add_(2, low, share * (1 - (at - low)))
    return weights.scatter_add_(2, high, share * (at - low))


def _align_weights(
    features: Tensor, rois: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Weights of the rows [K, P, H] and columns [K, Q, W]; zero for a picture that is not there."""
    x0, y0, x1, y1 = (rois[:, 1:] * scale - 0.5 * aligned).unbind(1)
    w, h = x1 - x0, y1 - y0
    if not aligned:
        w, h = w.clamp(min=1), h.clamp(min=1)
    return (
        _axis_weights(y0, h, height, ratio, features.shape[2]),
        _axis_weights(x0, w, width, ratio, features.shape[3]),
    )


@operator(
    "roi_align(Tensor features, Tensor rois, int height, int width, float scale, int sampling_ratio, bool aligned)"
    " -> Tensor",
    fake=_fake_pooled,
)
def roi_align_reference(
    features: Tensor, rois: Tensor, height: int, width: int, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Oracle and fallback of :func:`featx.ops.roi_align`."""
    down, across = _align_weights(features, rois, height, width, scale, sampling_ratio, aligned)
    picture, there = _pictures(rois, features)
    result = _fake_pooled(features, rois, height, width)
    for chunk in (slice(at, at + _CHUNK) for at in range(0, len(rois), _CHUNK)):
        maps = features[picture[chunk]].to(down)
        result[chunk] = torch.einsum("kph,kchw,kqw->kcpq", down[chunk], maps, across[chunk]).to(result)
    result[~there] = torch.nan
    return result


@operator(
    "roi_align_backward(Tensor grad, Tensor features, Tensor rois, int height, int width, float scale,"
    " int sampling_ratio, bool aligned) -> Tensor",
    fake=_fake_gradient,
)
def roi_align_backward_reference(
    grad: Tensor,
    features: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Oracle and fallback of the gradient; of ``features`` only the shape, dtype and memory format are used."""
    down, across = _align_weights(features, rois, height, width, scale, sampling_ratio, aligned)
    picture, there = _pictures(rois, features)
    total = torch.zeros(features.shape, dtype=arithmetic(features), device=features.device)
    for chunk in (slice(at, at + _CHUNK) for at in range(0, len(rois), _CHUNK)):
        share = torch.einsum("kph,kcpq,kqw->kchw", down[chunk], grad[chunk].to(down), across[chunk])
        total.index_add_(0, picture[chunk], share * there[chunk, None, None, None])
    return total.to(features.dtype).contiguous(memory_format=in_format_of(features))
