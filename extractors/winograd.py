"""The 3x3 convolution of a CPU in float32 with a third of the multiplications, where that is faster."""

from __future__ import annotations

import torch

from featx import ops
from featx_extractors.conv import Conv

LEAST_CHANNELS = 64  # on either side: of fewer a network has little work, and that stays exactly oneDNN's
LEAST_SIDE = 4  # cells of a plane (every dilation-th row and column): a smaller one fills no tile of 4 x 4


class WinogradConv(Conv):
    """:class:`Conv` that takes Winograd's way where it is faster: 3x3, stride 1, padding = dilation (the default).

    Which of both it is depends on channels and size of the map, never on the batch. The transformed weight, four times
    the weight, is made at the first use and kept.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        padding = dilation if padding is None else padding
        super().__init__(weight, bias, stride=stride, padding=padding, dilation=dilation, relu=relu)
        self._transformed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        if residual is not None or not self.pays(x):
            return super().forward(x, residual)
        if self._transformed is None:
            self._transformed = ops.winograd_weight(self.weight)
        return ops.winograd_conv(x, self._transformed, self.bias, dilation=self.dilation, relu=self.relu)

    def pays(self, x: torch.Tensor) -> bool:
        """Whether Winograd's way is there for ``x [B, C, H, W]`` and faster."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if x.dtype != torch.float32 or self.weight.dtype != torch.float32 or self.weight.shape[2:] != (3, 3):
            return False
        if self.stride != 1 or self.padding != self.dilation:
            return False
        planes = -(-x.shape[2] // self.dilation), -(-x.shape[3] // self.dilation)
        return min(planes) >= LEAST_SIDE and min(self.weight.shape[:2]) >= LEAST_CHANNELS and ops.winograd_compiled()
