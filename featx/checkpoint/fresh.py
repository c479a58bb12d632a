"""Fresh weights, as BERT and VLE draw them."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def draw(module: nn.Module, std: float) -> None:
    """Normal weights of deviation ``std`` out of torch's global generator; biases and padding zero, layer norms one."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(0.0, std)
        if isinstance(part, nn.LayerNorm):
            part.weight.fill_(1.0)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
        if isinstance(part, nn.Linear | nn.LayerNorm) and part.bias is not None:
            part.bias.zero_()
