"""The losses of question answering: logits ``[B, C]`` and soft scores ``[B, C]`` in 0..1 -> a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

IGNORED = -100  # the class of an example without an answer


def bce_soft(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with soft scores, summed over the answers (airsplay/lxmert: the mean times their number)."""
    return binary_cross_entropy_with_logits(logits, scores) * logits.shape[1]


def ce(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a softmax over the answers with the best-scored one; zero when no example has one."""
    classes = best_class(scores)
    if not bool((classes >= 0).any()):
        return logits.sum() * 0.0  # the mean over no example would be NaN
    return cross_entropy(logits, classes, ignore_index=IGNORED)


def mce(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """``ce`` times the number of answers (``--mceLoss`` of airsplay/lxmert's GQA script)."""
    return ce(logits, scores) * logits.shape[1]


def best_class(scores: torch.Tensor) -> torch.Tensor:
    """The first best-scored class ``[B]``; -100 where no answer scores."""
    best, classes = scores.max(dim=1)
    return torch.where(best > 0, classes, IGNORED)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"bce_soft": bce_soft, "ce": ce, "mce": mce}
