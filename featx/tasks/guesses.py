"""How well pre-training guesses: the loss of every objective, and how often classes are guessed right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from featx.lxmert.heads import REGIONS, Scores, Sums
from featx.lxmert.inputs import Batch

Guess = Mapping[str, Sequence[float]]  # objective -> [loss, asked, right, guessed], sums of one example


def guesses(scores: Scores, batch: Batch, sums: Mapping[str, Sums]) -> list[Guess]:
    """What each example adds to the figures of a split. Of regions' names only hidden ones are guessed."""
    columns = {
        name: torch.stack([one.loss, one.asked, *_right(name, scores, batch)], dim=1).tolist()
        for name, one in sums.items()
    }
    return [{name: rows[i] for name, rows in columns.items()} for i in range(len(batch["input_ids"]))]


def _right(name: str, scores: Scores, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """How many guesses were right and how many there were, float ``[B]``; none about features, which are no classes."""
    if name == "features":
        none = torch.zeros(len(batch["input_ids"]), device=scores.words.device)
        return none, none
    if name in REGIONS:
        head, labels, weights = REGIONS[name]
        asked = batch["hidden"] & (batch[weights] > 0)
        logits, wanted = scores.regions[head], torch.where(asked, batch[labels], -1)
    else:
        logits, wanted = getattr(scores, name), batch["word_labels" if name == "words" else name]
    wanted = wanted.reshape(len(wanted), -1)
    right = logits.argmax(dim=-1).reshape(wanted.shape) == wanted
    return (right & (wanted >= 0)).sum(dim=1).float(), (wanted >= 0).sum(dim=1).float()


def figures(found: Sequence[Guess]) -> dict[str, float]:
    """``negative_loss`` of the whole split, which grows as the loss falls, and percent of right guesses by objective.

    The loss is that of training, a sum of means, over the split instead of a batch.
    """
    sums = {name: [sum(column) for column in zip(*(one[name] for one in found), strict=True)] for name in found[0]}
    loss = sum(loss / asked for loss, asked, _, _ in sums.values() if asked)
    percent = {name: round(100 * right / guessed, 2) for name, (_, _, right, guessed) in sums.items() if guessed}
    return {"negative_loss": round(-loss, 6), **percent}
