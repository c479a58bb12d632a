"""The arguments of the network in a batch of :mod:`featx.grids`."""

from __future__ import annotations

from collections.abc import Mapping

import torch

Batch = Mapping[str, torch.Tensor]
NAMES = ("input_ids", "attention_mask", "features", "image_mask")


def arguments(batch: Batch) -> dict[str, torch.Tensor]:
    """Its tensors by the names of the network's arguments."""
    return {name: batch[name] for name in NAMES}
