"""The six objectives of pre-training, from the heads of transformers' LxmertForPreTraining.

That class returns their sum alone; here each has its name, and one that has nothing to learn from in a batch is left
out, where a mean over nothing would be NaN. With a label for everything the sum is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from featx.lxmert.inputs import Batch, arguments

# objective -> (its head in obj_predict_head, labels in the batch, weight of each region in the batch)
REGIONS = {
    "objects": ("obj", "object_labels", "object_weights"),
    "attributes": ("attr", "attribute_labels", "attribute_weights"),
    "features": ("feat", "feature_labels", "feature_weights"),
}
OBJECTIVES = ("words", "matched", *REGIONS, "answers")


@dataclass(frozen=True)
class Scores:
    """Logits: words ``[B, L, V]``, matched ``[B, 2]``, regions by head ``[B, N, ...]``, answers ``[B, C]``."""

    words: torch.Tensor
    matched: torch.Tensor
    regions: dict[str, torch.Tensor]
    answers: torch.Tensor | None


def pretraining_scores(model: Any, batch: Batch) -> Scores:
    """All heads on one batch; the answers are None for a network without that head."""
    found = model.lxmert(**arguments(batch))
    words, matched = model.cls(found.language_output, found.pooled_output)
    regions = model.obj_predict_head(found.vision_output) if hasattr(model, "obj_predict_head") else {}
    answers = model.answer_head(found.pooled_output) if hasattr(model, "answer_head") else None
    return Scores(words, matched, regions, answers)


def pretraining_losses(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """``loss``, the sum, and each objective by name.

    Batch, besides the inputs: word_labels ``[B, L]``, matched ``[B]`` (1: the sentence is of this picture), answers
    ``[B]``, object_labels and attribute_labels ``[B, N]``, feature_labels ``[B, N, D]``, and for these three weights
    ``[B, N]``. Classes are -100 where there is none. What is absent, and what no head is for, is left out.
    """
    scores, losses = pretraining_scores(model, batch), {}
    for name, logits in (("words", scores.words), ("matched", scores.matched)):
        labels = batch.get("word_labels" if name == "words" else name)
        if labels is not None and bool((labels >= 0).any()):
            losses[name] = cross_entropy(logits.flatten(0, -2), labels.flatten())
    for name, (head, labels_name, weights_name) in REGIONS.items():
        if head in scores.regions and labels_name in batch:
            each = _per_region(head, scores.regions[head], batch[labels_name])
            losses[name] = (each * batch[weights_name].flatten()).mean() * model.visual_loss_normalizer
    classes = batch.get("answers")
    if scores.answers is not None and classes is not None and bool((classes >= 0).any()):
        losses["answers"] = cross_entropy(scores.answers, classes)
    total = sum(losses.values(), torch.zeros((), device=scores.words.device))
    return {"loss": total, **losses}


def _per_region(head: str, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of each region ``[B * N]``: smooth L1, averaged over the feature, or cross-entropy."""
    if head == "feat":
        return smooth_l1_loss(scores.flatten(0, 1), labels.flatten(0, 1), reduction="none").mean(dim=1)
    return cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none")
