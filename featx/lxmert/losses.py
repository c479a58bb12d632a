"""The losses of question answering: logits ``[B, C]`` and soft scores ``[B, C]`` in 0..1 -> a scalar.

All are means over the B questions, so that the loss of a batch is the mean of those of its parts, however it is cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

IGNORED = -100  # the class of an example without an answer


def bce_soft(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with soft scores, summed over the answers (airsplay/lxmert: the mean times their number)."""
    return binary_cross_entropy_with_logits(logits, scores) * logits.shape[1]


def ce(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a softmax over the answers with the best-scored one; zero for a question that has none."""
    return cross_entropy(logits, best_class(scores), ignore_index=IGNORED, reduction="sum") / len(logits)


def mce(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """``ce`` times the number of answers (``--mceLoss`` of airsplay/lxmert's GQA script)."""
    return ce(logits, scores) * logits.shape[1]


def best_class(scores: torch.Tensor) -> torch.Tensor:
    """The first best-scored class ``[B]``; -100 where no answer scores."""
    best, classes = scores.max(dim=1)
    return torch.where(best > 0, classes, IGNORED)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"bce_soft": bce_soft, "ce": ce, "mce": mce}
