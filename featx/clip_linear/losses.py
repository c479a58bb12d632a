"""What the three heads are trained by."""

from __future__ import annotations

import torch
from torch.nn import functional

from featx.clip_linear.network import Scores

NONE = -100  # the class of what is not known, or not in the list


def answer_loss(scores: Scores, answers: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the classes ``[B]`` int64, ``NONE`` adds nothing. A mean over the batch, whatever is known."""
    return _classes(scores.answers, answers)


def type_loss(scores: Scores, types: torch.Tensor) -> torch.Tensor:
    """:func:`answer_loss` of the type of the answer."""
    return _classes(scores.types, types)


def answerable_loss(scores: Scores, answerable: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of 0 or 1, float32 ``[B]``; a negative number, not known, adds nothing.

    Not the cross entropy over one class that a description of the model has: that is 0, whatever the score.
    """
    known = answerable >= 0
    each = functional.binary_cross_entropy_with_logits(scores.answerable, answerable.clamp(min=0), reduction="none")
    return (each * known).sum() / len(answerable)


def _classes(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, classes, ignore_index=NONE, reduction="sum") / len(classes)
