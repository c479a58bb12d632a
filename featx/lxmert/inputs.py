"""What the network is given: regions of a batch of records, and questions, as tensors under transformers' names.

Axes: B pictures, N regions, D features, L word pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from featx.text.wordpiece import Tokens

if TYPE_CHECKING:
    from featx.record import RecordBatch

Batch = Mapping[str, torch.Tensor]

_NAMES = ("input_ids", "attention_mask", "visual_feats", "visual_pos", "visual_attention_mask")


def normalise_boxes(boxes: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Boxes ``[B, N, 4]`` in pixels -> fractions of their own picture; sizes ``[B, 2]`` are (height, width).

    x0, x1 by the width and y0, y1 by the height, as airsplay/lxmert does.
    """
    height, width = sizes[:, 0], sizes[:, 1]
    return boxes / torch.stack([width, height, width, height], dim=1)[:, None, :]


def regions(records: RecordBatch) -> dict[str, torch.Tensor]:
    """visual_feats ``[B, N, D]`` as stored, visual_pos ``[B, N, 4]`` in 0..1, visual_attention_mask ``[B, N]``.

    A picture without regions is one of zeros to the network, whether padded or, where the whole batch is such, not.
    """
    pictures, rows, dim = records.features.shape
    if not rows:
        return blind(pictures, dim)
    return {
        "visual_feats": records.features,
        "visual_pos": normalise_boxes(records.boxes, records.sizes),
        "visual_attention_mask": records.mask.to(torch.float32),
    }


def blind(batch: int, dim: int) -> dict[str, torch.Tensor]:
    """One region of zeros in place of a picture: neither features nor boxes nor their number tell anything."""
    return {
        "visual_feats": torch.zeros(batch, 1, dim),
        "visual_pos": torch.zeros(batch, 1, 4),
        "visual_attention_mask": torch.ones(batch, 1),
    }


def words(tokens: Tokens, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask ``[B, L]``, int64."""
    encoded = tokens.encode(texts)
    return {"input_ids": encoded.ids, "attention_mask": encoded.mask}


def arguments(batch: Batch) -> dict[str, torch.Tensor]:
    """The arguments of LxmertModel in a batch; token types, which it cannot do without, are all zero."""
    given = {name: batch[name] for name in _NAMES if name in batch}
    return {**given, "token_type_ids": torch.zeros_like(given["input_ids"])}
