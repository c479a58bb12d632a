"""How often pre-training guesses right: of hidden words, hidden regions' names, matches and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from featx.lxmert.heads import Scores
from featx.lxmert.inputs import Batch

Counts = dict[str, list[int]]


def count_right(scores: Scores, batch: Batch) -> list[Counts]:
    """For each example, objective -> [right, all]."""
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    if "word_labels" in batch:
        pairs["words"] = scores.words, batch["word_labels"]
    if "matched" in batch:
        pairs["matched"] = scores.matched, batch["matched"]
    for name, head in (("object", "obj"), ("attribute", "attr")):
        if head in scores.regions and f"{name}_labels" in batch:
            asked = batch["hidden"] & (batch[f"{name}_weights"] > 0)
            pairs[f"{name}s"] = scores.regions[head], torch.where(asked, batch[f"{name}_labels"], -1)
    if scores.answers is not None and "answers" in batch:
        pairs["answers"] = scores.answers, batch["answers"]
    counted = {name: _count(logits, labels) for name, (logits, labels) in pairs.items()}
    return [{name: counts[i] for name, counts in counted.items()} for i in range(len(batch["input_ids"]))]


def _count(logits: torch.Tensor, labels: torch.Tensor) -> list[list[int]]:
    labels = labels.reshape(len(labels), -1)
    right = (logits.argmax(dim=-1).reshape(labels.shape) == labels) & (labels >= 0)
    return torch.stack([right.sum(dim=1), (labels >= 0).sum(dim=1)], dim=1).tolist()


def shares(counts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, float]:
    """Percent right of each objective, and first their mean."""
    names = list(dict.fromkeys(name for one in counts for name in one))
    sums = {name: [sum(one[name][i] for one in counts if name in one) for i in (0, 1)] for name in names}
    percent = {name: round(100 * right / asked, 2) for name, (right, asked) in sums.items() if asked}
    return {"mean": round(sum(percent.values()) / max(1, len(percent)), 2), **percent}
