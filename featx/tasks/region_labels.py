"""What the hidden regions are to be recognised as: the detector's own names for them, and their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from featx.record import RecordBatch

# objective -> the fields of a store it needs
FIELDS = {"objects": ("object_ids", "object_confs"), "attributes": ("attribute_ids", "attribute_confs")}


def region_labels(objectives: Sequence[str], records: RecordBatch, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels and weights ``[B, N]`` of each objective about regions; ``hidden`` bool ``[B, N]``.

    Names weigh as much as the detector was sure of them, for all regions, hidden or not; features weigh 1 where hidden
    (airsplay/lxmert). The loss is a mean over all B * N rows, so the weights of a picture are scaled to a mean over its
    real ones: a picture counts the same whatever others are in its batch.
    """
    real = records.mask
    scale = real.shape[1] / real.sum(dim=1, keepdim=True).clamp(min=1)
    found: dict[str, torch.Tensor] = {}
    for name, (ids, confs) in FIELDS.items():
        if name in objectives:
            classes, sure = records.extra[ids].long(), records.extra[confs]
            known = real & (classes >= 0)  # a region without a name has the id -1
            found[f"{name[:-1]}_labels"] = torch.where(known, classes, 0)
            found[f"{name[:-1]}_weights"] = torch.where(known, sure, 0.0) * scale
    if "features" in objectives:
        found["feature_labels"] = records.features
        found["feature_weights"] = hidden.to(torch.float32) * scale
    found["hidden"] = hidden
    return found
