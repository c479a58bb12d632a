"""Where the tokens of a picture are: one place for all of them, as published, or a place for each."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Places = Literal["count", "each"]  # visual_places in config.json; absent from a published one, which counts
_WAVES = 3  # of sine and cosine along each axis: as fine as a sixth of a picture


@torch.no_grad()
def spread(table: nn.Embedding, boxes: torch.Tensor, size: tuple[int, int], std: float) -> None:
    """Draw the places of a fresh network, so that neighbours in the picture are neighbours there.

    boxes ``[N, 4]`` of the tokens in pixels, size (height, width) of the picture. The rows are random combinations of
    the boxes' centres, extents and slow waves of the centres, of deviation ``std`` over the tokens: one of the order of
    what the picture says, or the network never learns what "left of" is. Rows behind ``N`` stay as they are.
    """
    height, width = size
    scale = boxes.new_tensor([width, height, width, height])
    x0, y0, x1, y1 = (boxes / scale).double().unbind(dim=1)
    centres = [(x0 + x1) / 2, (y0 + y1) / 2]
    turns = [math.pi * wave * centre for centre in centres for wave in range(1, _WAVES + 1)]
    known = [*centres, x1 - x0, y1 - y0, *(wave for turn in turns for wave in (turn.sin(), turn.cos()))]
    facts = torch.stack(known, dim=1)
    facts = (facts - facts.mean(dim=0)) / facts.std(dim=0).clamp_min(1e-6)
    drawn = facts @ torch.randn(facts.shape[1], table.embedding_dim, dtype=torch.float64)
    table.weight[: len(boxes)] = (drawn * (std / drawn.std())).to(table.weight)
