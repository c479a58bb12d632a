"""The last layer of a classifier, when the list of its classes becomes another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def with_rows(layer: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    """A layer whose row i is row ``rows[i]`` of ``layer``, or zeros where that is -1: a class that is new."""
    known = torch.as_tensor(rows, device=layer.weight.device)
    made = nn.Linear(layer.in_features, len(rows), device=layer.weight.device)
    made.weight.copy_(torch.where((known >= 0)[:, None], layer.weight[known.clamp(min=0)], 0.0))
    made.bias.copy_(torch.where(known >= 0, layer.bias[known.clamp(min=0)], 0.0))
    return made
