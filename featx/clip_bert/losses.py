"""Losses of the heads."""

from __future__ import annotations

import torch
from torch.nn import functional

IGNORED = -100


def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Scalar: mean softmax cross entropy of logits ``[B, C]`` and one class each, int64 ``[B]``, as published.

    A label of -100 counts as zero, so that the loss of a batch is the mean of those of its parts.
    """
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / len(logits)


def word_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Scalar: mean cross entropy over labels ``[B, M]`` above 0; the original leaves token 0 out with the rest.

    Zero where there is none.
    """
    asked = torch.where(labels > 0, labels, IGNORED).flatten()
    total = functional.cross_entropy(logits.flatten(0, 1), asked, ignore_index=IGNORED, reduction="sum")
    return total / (asked != IGNORED).sum().clamp(min=1)
