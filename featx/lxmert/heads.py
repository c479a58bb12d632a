"""The six objectives of pre-training, from the heads of transformers' LxmertForPreTraining.

That class returns their sum alone; here each has its name, and one that has nothing to learn from in a batch is left
out, where a mean over nothing would be NaN. With a label for everything the sum is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from featx.lxmert.inputs import Batch, arguments

Objective = Literal["words", "matched", "objects", "attributes", "features", "answers"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

# objective -> (its head in obj_predict_head, labels in the batch, weight of each region in the batch)
REGIONS: dict[str, tuple[str, str, str]] = {
    "objects": ("obj", "object_labels", "object_weights"),
    "attributes": ("attr", "attribute_labels", "attribute_weights"),
    "features": ("feat", "feature_labels", "feature_weights"),
}


@dataclass(frozen=True)
class Scores:
    """Logits: words ``[B, L, V]``, matched ``[B, 2]``, regions by head ``[B, N, ...]``, answers ``[B, C]``."""

    words: torch.Tensor
    matched: torch.Tensor
    regions: dict[str, torch.Tensor]
    answers: torch.Tensor | None


@dataclass(frozen=True)
class Sums:
    """One objective in each example of a batch: its ``loss`` summed over what is ``asked``, and how much that is, both
    float ``[B]``. The loss of a batch is the sum of the one over the sum of the other."""

    loss: torch.Tensor
    asked: torch.Tensor


def pretraining_scores(model: Any, batch: Batch) -> Scores:
    """All heads on one batch; the answers are None for a network without that head."""
    found = model.lxmert(**arguments(batch))
    words, matched = model.cls(found.language_output, found.pooled_output)
    regions = model.obj_predict_head(found.vision_output) if hasattr(model, "obj_predict_head") else {}
    answers = model.answer_head(found.pooled_output) if hasattr(model, "answer_head") else None
    return Scores(words, matched, regions, answers)


def objective_sums(scores: Scores, batch: Batch, normaliser: float) -> dict[str, Sums]:
    """Every objective of the batch that there is a head for.

    Batch, besides the inputs: word_labels ``[B, L]``, matched ``[B]`` (1: the sentence is of this picture), answers
    ``[B]``, object_labels and attribute_labels ``[B, N]``, feature_labels ``[B, N, D]``, and for these three weights
    ``[B, N]``. Classes are -100 where there is none. Of regions a picture asks once: the weighted mean over all N,
    times ``normaliser``, the inverse of the share that is hidden.
    """
    found: dict[str, Sums] = {}
    if "word_labels" in batch:
        found["words"] = _classes(scores.words, batch["word_labels"])
    if "matched" in batch:
        found["matched"] = _classes(scores.matched, batch["matched"])
    for name, (head, labels, weights) in REGIONS.items():
        if head in scores.regions and labels in batch:
            each = _per_region(head, scores.regions[head], batch[labels])
            loss = (each * batch[weights]).mean(dim=1) * normaliser
            found[name] = Sums(loss, torch.ones_like(loss))
    if scores.answers is not None and "answers" in batch:
        found["answers"] = _classes(scores.answers, batch["answers"])
    return found


def pretraining_losses(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """``loss``, the sum, and each objective by name, a mean over what is asked; see :func:`objective_sums`.

    What is absent, what no head is for, and what nothing is asked of is left out; ``loss`` alone, zero, may remain.
    """
    scores = pretraining_scores(model, batch)
    sums = objective_sums(scores, batch, model.visual_loss_normalizer)
    losses = {name: one.loss.sum() / one.asked.sum() for name, one in sums.items() if bool(one.asked.any())}
    nothing = scores.matched.sum() * 0.0  # with a graph, as training goes backward through it
    return {"loss": torch.stack(list(losses.values())).sum() if losses else nothing, **losses}


def _classes(logits: torch.Tensor, labels: torch.Tensor) -> Sums:
    """Cross-entropy of logits ``[B, ..., C]`` with labels ``[B, ...]``, -100 where nothing is asked."""
    each = cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return Sums(each.reshape(len(labels), -1).sum(dim=1), (labels >= 0).reshape(len(labels), -1).sum(dim=1).float())


def _per_region(head: str, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of each region ``[B, N]``: smooth L1, averaged over the feature, or cross-entropy."""
    if head == "feat":
        return smooth_l1_loss(scores, labels, reduction="none").mean(dim=2)
    return cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape)
