"""3x3 convolution with a third of the multiplications: Winograd's minimal filtering (Lavin & Gray 2016).

A tile of 4 x 4 outputs takes 36 products for each pair of channels in place of 144, one of 3 x 3 takes 25 in place of
81. Input, kernel and products are evaluated as polynomials at 0, 1, -1, 1/2, -2 and infinity: among the sets of small
fractions one of the least rounding (Barabasz et al. 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from featx.errors import UsageError
from featx.ops.checks import expect, expect_dtype
from featx.ops.library import operator

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_INPUT = (
    (1, -1.5, -2, 1.5, 1, 0), (0, -1, 0.5, 2.5, 1, 0), (0, 1, -2.5, 0.5, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 0.5, -1, -0.5, 1, 0), (0, 1, -1.5, -2, 1.5, 1),
)  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 0.5, -2, 0), (0, 1, 1, 0.25, 4, 0), (0, 1, -1, 0.125, -8, 1))
_LANES, _PANEL = 16, 32  # channels and outputs that the kernel takes together


def winograd_compiled() -> bool:
    """Whether there is a compiled kernel for this CPU; plain torch, which runs otherwise, is slow."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("featx::winograd_conv", "CPU")


def winograd_weight(weight: Tensor) -> Tensor:
    """``weight [K, C, 3, 3]`` float32 as :func:`winograd_conv` takes it, four times as large; computed in float64.

    ``[K / 64, 36, 2, C, 32]``, position by position in panels of 32 outputs; C and K are filled up with zeros. Raises
    UsageError.
    """
    expect("weight", weight, ("K", "C", 3, 3))
    expect_dtype("weight", weight, torch.float32)
    outputs, channels = weight.shape[:2]
    kernel = torch.tensor([_kernel_row(i) for i in range(6)], dtype=torch.float64)
    blocks = [kernel @ part.double() @ kernel.T for part in weight.contiguous().split(2 * _PANEL)]  # [64, C, 6, 6] each
    padded = [
        functional.pad(block.flatten(2).permute(2, 1, 0), (0, 2 * _PANEL - len(block), 0, -channels % _LANES)).float()
        for block in blocks
    ]
    if not outputs:
        return weight.new_empty(0, 36, 2, channels + -channels % _LANES, _PANEL)
    return torch.stack([block.unflatten(2, (2, _PANEL)).transpose(1, 2) for block in padded]).contiguous()


def _kernel_row(i: int) -> list[float]:
    if i == len(_POINTS):
        return [0.0, 0.0, 1.0]
    scale = 1.0
    for other in _POINTS[:i] + _POINTS[i + 1 :]:
        scale *= _POINTS[i] - other
    return [_POINTS[i] ** power / scale for power in range(3)]


def winograd_conv(
    x: Tensor, weight: Tensor, bias: Tensor, *, dilation: int = 1, relu: bool = False, level: int = 0
) -> Tensor:
    """``act(conv(x) + bias)``, 3x3, stride 1, padding = dilation, channels_last; ReLU or nothing as the act.

    x ``[B, C, H, W]``, bias ``[K]``, both float32; weight from :func:`winograd_weight`. A picture's bits depend neither
    on the batch nor on the number of threads. An infinity or NaN spreads over its tile. ``level``: the instruction set,
    0 the best there is, 2 AVX2, 5 AVX-512, with the same bits. Raises UsageError.
    """
    expect("x", x, ("B", "C", "H", "W"))
    expect("bias", bias, ("K",), "a value per output")
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        expect_dtype(name, tensor, torch.float32)
        if not tensor.is_cpu:
            raise UsageError(f"{name} is on {tensor.device}, expected the CPU", "elsewhere use torch's own convolution")
    channels, outputs = x.shape[1] + -x.shape[1] % _LANES, -(-len(bias) // (2 * _PANEL))
    expect("weight", weight, (outputs, 36, 2, channels, _PANEL), "as winograd_weight makes it, of as many channels")
    if dilation < 1:
        raise UsageError(f"dilation is {dilation}, expected 1 or more")
    result: Tensor = torch.ops.featx.winograd_conv(x, weight, bias, dilation, relu, level)
    return result


def _fake_winograd_conv(x: Tensor, weight: Tensor, bias: Tensor, *rest: object) -> Tensor:
    shape = (x.shape[0], bias.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@operator(
    "winograd_conv(Tensor x, Tensor weight, Tensor bias, int dilation, bool relu, int level) -> Tensor",
    fake=_fake_winograd_conv,
)
def winograd_conv_reference(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, relu: bool, level: int) -> Tensor:
    """Oracle and fallback of :func:`winograd_conv`: tiles of 4 x 4 only."""
    kernel = weight.permute(1, 3, 0, 2, 4).flatten(2)[:, : x.shape[1], : len(bias)]  # [36, C, K]
    out = x.new_empty(x.shape[0], len(bias), *x.shape[2:]).contiguous(memory_format=torch.channels_last)
    for i in range(min(dilation, x.shape[2])):
        for j in range(min(dilation, x.shape[3])):
            out[:, :, i::dilation, j::dilation] = _plane(x[:, :, i::dilation, j::dilation], kernel)
    out += bias[:, None, None]
    return out.relu_() if relu else out


def _plane(x: Tensor, kernel: Tensor) -> Tensor:
    """The convolution of ``x [B, C, h, w]`` without dilation and bias."""
    height, width = x.shape[2:]
    padded = functional.pad(x, (1, 1 + -width % 4, 1, 1 + -height % 4))
    tiles = padded.unfold(2, 6, 4).unfold(3, 6, 4)  # [B, C, v, u, 6, 6]
    into, back = x.new_tensor(_INPUT), x.new_tensor(_OUTPUT)
    points = (into @ tiles @ into.T).flatten(4)  # [B, C, v, u, 36]
    products = torch.einsum("bcvup,pck->bkvup", points, kernel).unflatten(-1, (6, 6))
    outputs = (back @ products @ back.T).transpose(3, 4)  # [B, K, v, 4, u, 4]
    result: Tensor = outputs.flatten(4).flatten(2, 3)[:, :, :height, :width]
    return result
