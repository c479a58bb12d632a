"""The loss of captions: cross entropy of every token, as the published training script computes it."""

from __future__ import annotations

import math

import torch
from torch import nn


def caption_loss(
    logits: torch.Tensor, labels: torch.Tensor, real: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """A scalar: the mean over the real tokens of a batch. logits ``[B, L, V]``, labels and real ``[B, L]``.

    smoothing: share of the probability that the target gives to the other V - 1 tokens; the entropy of that target,
    below which no prediction comes, is taken off (``loss_fn`` of the Flax script, after flax's wmt example).
    """
    logits = logits.float()
    right = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    if smoothing:
        others = logits.shape[2] - 1
        each = smoothing / others
        everything = -logits.log_softmax(dim=2).sum(dim=2)
        entropy = -((1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(each))
        right = (1 - smoothing) * right + each * (everything - right) - entropy
    weight = real.to(right.dtype)
    return (right * weight).sum() / weight.sum().clamp(min=1)


def shifted(labels: torch.Tensor, start: int) -> torch.Tensor:
    """What the decoder reads to predict ``labels`` ``[B, L]``: ``start``, then all of them but the last."""
    return torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
