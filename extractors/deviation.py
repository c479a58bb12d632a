"""How far the features of a precision are from float32, measured on a picture at the boxes that float32 chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from featx.errors import UsageError
from featx_extractors.detector import Detector, Regions
from featx_extractors.preprocess import Frame


def deviation(
    tested: Detector, exact: Detector, pixels: torch.Tensor, frame: Frame, given: torch.Tensor | None = None
) -> dict[str, Any]:
    """What ``tested`` makes of the input ``pixels [3, H, W]`` beside ``exact``, the same network in float32.

    Both look at the boxes that ``exact`` keeps, or at ``given`` ones: else a region chosen otherwise would count as an
    error of its features. Plain JSON: regions; largest and mean absolute error of the features, and their mean size;
    least_cosine of a region's two vectors; largest_confidence_error of the best class; same_object_id, a share. Nothing
    but the number where there is no region. Raises UsageError where features are not finite.
    """
    inputs, frames = pixels[None], [frame]
    true = exact.detect(inputs, frames)[0] if given is None else exact.describe(inputs, frames, [given])[0]
    found = tested.describe(inputs, frames, [true.proposals])[0]
    at_all = exact.describe(inputs, frames, [true.proposals])[0]  # the classes of maxnms and multilabel may be others
    if not len(true.features):
        return {"regions": 0}
    if not found.features.isfinite().all():
        raise UsageError(
            f"in {tested.precision.name} some features are not finite: these weights reach beyond its numbers",
            "use --precision bf16, which has the range of float32, or float32",
        )
    return {"regions": len(true.features), **_errors(found, at_all)}


def _errors(found: Regions, true: Regions) -> Mapping[str, float]:
    error = (found.features - true.features).abs()
    cosine = functional.cosine_similarity(found.features.double(), true.features.double())
    figures = {
        "largest_error": error.max(),
        "mean_error": error.mean(),
        "mean_feature": true.features.abs().mean(),
        "least_cosine": cosine.min(),
        "largest_confidence_error": (found.object_confs - true.object_confs).abs().max(),
        "same_object_id": (found.object_ids == true.object_ids).double().mean(),
    }
    return {name: float(f"{float(value):.6g}") for name, value in figures.items()}
