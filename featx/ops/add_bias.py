"""What follows a convolution: bias, the sum with a shortcut, and ReLU, in one pass over its output."""

from __future__ import annotations

import torch
from torch import Tensor

from featx.errors import UsageError
from featx.ops.checks import expect, expect_alike, expect_dtype
from featx.ops.library import operator


def add_bias(x: Tensor, bias: Tensor, shortcut: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """``act(x + bias [+ shortcut])``, channels_last, with ReLU or nothing as the act; a NaN stays.

    x, shortcut: ``[B, C, H, W]``; bias: ``[C]``; all of one dtype, float32, float64, float16 or bfloat16. On a GPU
    half precision is summed in float32 and rounded once. Raises UsageError.
    """
    expect("x", x, ("B", "C", "H", "W"))
    expect_dtype("x", x, torch.float32, torch.float64, torch.float16, torch.bfloat16)
    expect("bias", bias, (x.shape[1],), "a value per channel")
    expect_alike(x=x, bias=bias)
    if shortcut is not None:
        if shortcut.shape != x.shape:
            raise UsageError(f"shortcut has shape {list(shortcut.shape)}, x has {list(x.shape)}", "they are summed")
        expect_alike(x=x, shortcut=shortcut)
    result: Tensor = torch.ops.featx.add_bias(x, bias, shortcut, relu)
    return result


def _fake_add_bias(x: Tensor, *rest: object) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@operator(
    "add_bias(Tensor x, Tensor bias, Tensor? shortcut, bool relu) -> Tensor",
    fake=_fake_add_bias,
)
def add_bias_reference(x: Tensor, bias: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Oracle and fallback of :func:`add_bias`."""
    result = x + bias[:, None, None]
    if shortcut is not None:
        result = result + shortcut
    if relu:
        result = result.relu()
    return result.contiguous(memory_format=torch.channels_last)
