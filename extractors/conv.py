"""Convolution with batch norm folded in, and ReLU and the residual sum fused where the CPU library offers it.

Inference at these sizes is bound by memory as much as by arithmetic: a separate batch norm, ReLU or sum over a
[300, 2048, 14, 14] tensor reads and writes half a gigabyte. Folding removes the first, fusing the other two.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from featx import ops

Tensors = Mapping[str, torch.Tensor]


def _fused_available() -> bool:
    # oneDNN's fused entry points, the ones torch.compile emits; not part of torch's stable surface, hence the probe.
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    )


FUSED = _fused_available()
SUMMED = ops.native_status().cuda  # bias, sum and ReLU in one pass over what cuDNN leaves, instead of three


def folded(tensors: Tensors, name: str, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of ``name`` with the batch norm ``name.norm`` folded in, computed in float64."""
    weight = tensors[f"{name}.weight"].double()
    gamma, beta, mean, variance = (
        tensors[f"{name}.norm.{leaf}"].double() for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / torch.sqrt(variance + eps)
    return (weight * scale[:, None, None, None]).float(), (beta - mean * scale).float()


class Conv(nn.Module):
    """``act(conv(x) + bias [+ residual])`` with square kernels; ReLU is the only act.

    The residual's storage is reused for the result, so the caller must not need it again.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding, self.dilation, self.relu = stride, padding, dilation, relu
        self._packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        if FUSED and x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._fused(x, residual)
        if SUMMED and x.is_cuda and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return self._summed(x, residual)
        out = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
        if residual is not None:
            out = out + residual
        return functional.relu_(out) if self.relu else out

    def _summed(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        out = functional.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)
        return ops.add_bias(out, self.bias, residual, relu=self.relu)

    def _fused(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        geometry = ([self.padding] * 2, [self.stride] * 2, [self.dilation] * 2, 1)
        if self._packed is None or self._packed.dtype != self.weight.dtype:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, list(x.shape))
        if residual is None:
            act = "relu" if self.relu else "none"
            out: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._packed, self.bias, *geometry, act, [], ""
            )
            return out
        act_after = "relu" if self.relu else None
        torch.ops.mkldnn._convolution_pointwise_.binary(
            residual, x, self._packed, self.bias, *geometry, "add", 1.0, act_after, [], ""
        )
        return residual
