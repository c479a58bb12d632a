"""The losses of VLE. Axes: B examples, C answers, N rows of the picture, L tokens, V words."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

IGNORED = -100  # a row or a token that is not asked about


def match_loss(logits: torch.Tensor, matched: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of ``[B, 2]`` with ``matched [B]`` int64, 1 for a match."""
    return cross_entropy(logits, matched)


def patch_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every patch: the mean over the patches of each picture, and then over pictures.

    So it does not depend on how a batch is cut; where all grids have as many patches it is the mean over patches.
    logits ``[B, N, 2]``, labels int64 ``[B, N]``: 1 for a patch the text is about, 0 for another, -100 for no patch.
    (The original's own takes the patches for classes, and cannot be computed.)
    """
    each = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    asked = (labels != IGNORED).sum(dim=1).clamp(min=1)
    return (each.sum(dim=1) / asked).mean()


def word_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the masked words: logits ``[B, L, V]``, labels int64 ``[B, L]``, -100 where nothing is asked."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
