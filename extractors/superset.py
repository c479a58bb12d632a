"""Supersets: every region that some choice of up to N boxes would keep, with what the rule looks at noted beside it.

docs/superset.md says for each rule why that decides every such choice; ``featx.store.rule`` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from featx import ops
from featx_extractors.network import Predictions
from featx_extractors.profiles import Profile
from featx_extractors.selection import Competing, Regression, Selection, best_class, competing

Marks = Mapping[str, torch.Tensor]


def candidates(
    regression: Regression, predictions: Predictions, original_boxes: torch.Tensor
) -> tuple[Selection, Marks]:
    """The regions a superset keeps, in the order of the rule, and its fields (``featx.store.rule.superset_fields``).

    ``original_boxes [R, 4]`` are the proposals in pixels of the original. Nothing is dropped for an empty box: that
    comes last, when the choice is made.
    """
    profile = regression.profile
    if profile.select == "classwise":
        return _best(original_boxes, predictions.probs, profile)
    found = competing(regression, predictions.probs)
    levels = _levels(found, profile)
    members = levels.nonzero()[:, 0]
    order = members[found.confs[members].argsort(descending=True, stable=True)]
    kept = Selection(found.rows[order], found.classes[order], found.confs[order], profile.thresholds[-1])
    return kept, {**common_marks(kept, kept.confs), "nms_levels": levels[order]}


def _best(boxes: torch.Tensor, probs: torch.Tensor, profile: Profile) -> tuple[Selection, Marks]:
    """The best by survivor score, and the score of the next: a threshold nobody reaches makes the operator rank."""
    most = profile.superset
    ranked, scores = ops.select_boxes(
        boxes, probs, nms_threshold=profile.thresholds[0], score_threshold=math.inf,
        min_boxes=most + 1, max_boxes=most + 1, inclusive=profile.nms_inclusive, plus_one=profile.plus_one,
    )  # fmt: skip
    rows, confs = ranked[:most], scores[:most]
    beyond = scores[most] if len(scores) > most else scores.new_tensor(-1.0)
    object_confs, classes = best_class(probs)
    kept = Selection(rows, classes[rows], object_confs[rows], profile.thresholds[0])
    return kept, {**common_marks(kept, confs), "next_conf": beyond}


def common_marks(kept: Selection, confs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every rule notes: where the kept regions are among the proposals, and what they were kept for ``[n]``."""
    return {"proposal_ranks": kept.rows.to(torch.int32), "selection_confs": confs}


def _levels(found: Competing, profile: Profile) -> torch.Tensor:
    """int32 ``[M]``: bit i is set for what must be known to survive the NMS at the i-th threshold.

    A later threshold is tried when those before leave too few. Under maxnms one that leaves N ends that, whatever
    number up to N is wanted. Under multilabel a higher score threshold may thin it out again, but only one that is at
    least the confidence of its N-th survivor: of later thresholds no more than what is above that can be asked for.
    """
    most = profile.superset
    levels = torch.zeros(len(found.rows), dtype=torch.int32, device=found.confs.device)
    floor = -math.inf
    for level, threshold in enumerate(profile.thresholds):
        survivors = found.survivors(threshold, profile)[:most]
        asked = survivors[found.confs[survivors] > floor]
        levels[asked] |= 1 << level
        if len(survivors) == most:
            floor = max(floor, float(found.confs[survivors[-1]]))
            if profile.select == "maxnms":
                break
    return levels
