"""What networks that read grids are given: the rows of a batch of records, and texts, as tensors.

Axes: B examples, N rows of the picture, D features, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from featx.text.wordpiece import Tokens

if TYPE_CHECKING:
    from featx.record import RecordBatch


def words(tokens: Tokens, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask ``[B, L]``, int64."""
    encoded = tokens.encode(texts)
    return {"input_ids": encoded.ids, "attention_mask": encoded.mask}


def grid(records: RecordBatch) -> dict[str, torch.Tensor]:
    """features ``[B, N, D]`` as stored, image_mask ``[B, N]`` bool. Pictures without rows are blind."""
    pictures, rows, dim = records.features.shape
    if not rows:
        return blind(pictures, dim)
    mask = records.mask.clone()
    mask[:, 0] = True  # a picture without rows among others: its zeros are looked at, as nothing else is there
    return {"features": records.features, "image_mask": mask}


def blind(batch: int, dim: int) -> dict[str, torch.Tensor]:
    """One row of zeros in place of a picture."""
    return {"features": torch.zeros(batch, 1, dim), "image_mask": torch.ones(batch, 1, dtype=torch.bool)}
