"""Which anchors and regions learn which box: overlap decides, and a sample of each kind keeps the two in balance.

Ren et al. 2015 (Faster R-CNN), section 3.1.2 for anchors; Girshick 2015 (Fast R-CNN), section 2.3 for regions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from featx import ops

IGNORED = -1


class Matches(NamedTuple):
    """Of N candidates: labels ``[N]`` int64 (1 object, 0 background, -1 neither), targets ``[N]``: rows of boxes."""

    labels: torch.Tensor
    targets: torch.Tensor


def match(
    candidates: torch.Tensor,
    boxes: torch.Tensor,
    *,
    positive: float,
    negative: float,
    best_too: bool = False,
    plus_one: bool = False,
) -> Matches:
    """Compare ``candidates [N, 4]`` with the annotated ``boxes [G, 4]`` by IoU.

    At ``positive`` or more it is an object, below ``negative`` background, between them neither. ``best_too``: the
    candidates that overlap a box most are objects however little that is, so that no box goes unlearnt. A candidate's
    target is the box that it overlaps most.
    """
    if not len(boxes):
        zeros = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
        return Matches(zeros, zeros.clone())
    overlap = ops.box_iou(candidates, boxes, plus_one=plus_one)
    most, targets = overlap.max(1)
    labels = torch.full_like(targets, IGNORED)
    labels[most < negative] = 0
    labels[most >= positive] = 1
    if best_too:
        best = overlap.max(0).values
        labels[((overlap == best) & (best > 0)).any(1)] = 1
    return Matches(labels, targets)


def sample(labels: torch.Tensor, count: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a random sample: at most ``count * share`` objects, and background up to ``count`` in all.

    Uses torch's global generator, whose state a checkpoint of the training loop holds.
    """
    objects, background = (labels == 1).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    chosen = _some(objects, int(count * share))
    return chosen, _some(background, count - len(chosen))


def _some(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows[torch.randperm(len(rows), device=rows.device)[:count]]
