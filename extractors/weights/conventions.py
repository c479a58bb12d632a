"""From a checkpoint to the normal form: what the file does not say is detected, checked, and noted.

The row layouts of the published files: peteanderson80/bottom-up-attention and MILVLG put background first, with box
deltas for it and an objectness pair per anchor; airsplay, Hugging Face and detectron2 put it last, without either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.anchors import Generator, detectron2_anchors, family, standard_anchors
from featx_extractors.weights.architecture import CELL_ANCHORS, PREDICTOR, RPN, Architecture, require
from featx_extractors.weights.checkpoint import NORMALISED, UNIT, Checkpoint, Weights4, weights4

Arrays = dict[str, Array]

# Limit of rms(bbox_pred) / rms(cls_score). Both layers start at a ratio of 0.1 (standard deviations .001 and .01), and
# training makes the box layer catch up. Folding the deviations of the deltas (.1, .1, .2, .2) into it, as Caffe's
# snapshots do, divides it by 6. The limit lies between 0.2 and a sixth of that: an estimate, so it is always noted.
FOLDED_BELOW = 0.08
_IGNORED = ("pixel_mean", "pixel_std", "roi_heads.mask_head.")
_CLASS_LAYER, _BOX_LAYER = f"{PREDICTOR}.cls_score", f"{PREDICTOR}.bbox_pred"


def as_float32(arrays: Mapping[str, Array], file: str) -> tuple[Arrays, list[str]]:
    """Own, contiguous float32 copies without training counters; notes say what was cast or left out.

    Raises WeightsError for a tensor that is not of floating point, or not finite, or a negative variance.
    """
    kept: Arrays = {}
    cast, ignored = set(), []
    for name, array in arrays.items():
        if name.endswith(".num_batches_tracked"):
            continue
        if name.startswith(_IGNORED):
            ignored.append(name)
            continue
        if array.dtype.kind != "f":
            raise WeightsError(f"{file}: {name} is {array.dtype}, expected floating point", "get an unquantised copy")
        if array.dtype != np.float32:
            cast.add(str(array.dtype))
        with np.errstate(over="ignore"):
            kept[name] = np.array(array, np.float32, order="C")
        least = kept[name].min(initial=0)
        if not np.isfinite(kept[name]).all() or (name.endswith("running_var") and least < 0):
            raise WeightsError(
                f"{file}: {name} holds NaN, infinity or a negative variance", "the file is damaged; get another copy"
            )
    notes = [f"values cast from {dtype} to float32" for dtype in sorted(cast)]
    return kept, notes + ([f"left out: {', '.join(ignored[:4])}"] if ignored else [])


def background_last(arrays: Arrays, file: str) -> tuple[Arrays, bool]:
    """With background behind the classes and no box deltas for it; True when it stood first.

    Told from the rows of ``bbox_pred``: 4 (C + 1) has background, first; 4 C has none, and background is last.
    """
    require(arrays, [f"{layer}.{leaf}" for layer in (_CLASS_LAYER, _BOX_LAYER) for leaf in ("weight", "bias")], file)
    rows, deltas = len(arrays[f"{_CLASS_LAYER}.bias"]), len(arrays[f"{_BOX_LAYER}.bias"])
    if deltas == 4 * (rows - 1):
        return arrays, False
    if deltas != 4 * rows:
        raise WeightsError(
            f"{file}: bbox_pred has {deltas} rows for {rows} rows of cls_score, expected {4 * rows} (background first) "
            f"or {4 * rows - 4} (background last)",
            "class-agnostic box regression is not supported" if deltas == 4 else "the file is of another network",
        )
    moved = {f"{_CLASS_LAYER}.{leaf}" for leaf in ("weight", "bias")} | {f"{PREDICTOR}.cls_embedding.weight"}
    moved |= {f"{PREDICTOR}.attr_score.{leaf}" for leaf in ("weight", "bias")}
    changed = {name: np.roll(arrays[name], -1, axis=0) for name in moved if name in arrays}
    changed |= {f"{_BOX_LAYER}.{leaf}": arrays[f"{_BOX_LAYER}.{leaf}"][4:].copy() for leaf in ("weight", "bias")}
    return arrays | changed, True


def single_objectness(arrays: Arrays, file: str) -> tuple[Arrays, bool]:
    """With one objectness logit per anchor; True when there was a (background, foreground) pair.

    The softmax of a pair is the sigmoid of its difference, so nothing is lost. Caffe's pair is all background
    channels, then all foreground channels.
    """
    names = [f"{RPN}.objectness_logits.{leaf}" for leaf in ("weight", "bias")]
    require(arrays, [*names, f"{RPN}.anchor_deltas.bias"], file)
    rows, deltas = len(arrays[names[1]]), len(arrays[f"{RPN}.anchor_deltas.bias"])
    if deltas == 4 * rows:
        return arrays, False
    if deltas != 2 * rows:
        raise WeightsError(
            f"{file}: objectness_logits has {rows} rows for {deltas} rows of anchor_deltas, expected {deltas // 4} or "
            f"{deltas // 2} (pairs)",
            "the file is of another network",
        )
    half = rows // 2
    return arrays | {name: arrays[name][half:] - arrays[name][:half] for name in names}, True


def with_anchors(
    arrays: Arrays, checkpoint: Checkpoint, wanted: Generator | None, file: str
) -> tuple[Arrays, list[str]]:
    """With the cell anchors stored; a note says where they come from when the file has none.

    In this order: the file, ``wanted`` (``caffe`` or ``detectron2``), config.yaml, what the layout fixes.
    Raises WeightsError when nothing decides, or ``wanted`` contradicts the file.
    """
    count = len(arrays[f"{RPN}.anchor_deltas.bias"]) // 4
    if CELL_ANCHORS in arrays:
        cell = arrays[CELL_ANCHORS]
        found = family(cell) if cell.shape == (count, 4) else "other"  # a wrong shape is reported with all others
        if wanted not in (None, found):
            raise WeightsError(
                f"{file} stores {found} anchors, but {wanted} anchors were asked for", "leave the anchors to the file"
            )
        return arrays, []
    standard, origin = _anchors(checkpoint, wanted, count)
    if standard is None or len(standard) != count:
        raise WeightsError(
            f"{file} does not store its {count} anchors, and nothing else says what they are",
            "state --anchors caffe (trained by Caffe) or --anchors detectron2",
        )
    return arrays | {CELL_ANCHORS: standard}, [f"the file stores no anchors; taken from {origin}"]


def _anchors(checkpoint: Checkpoint, wanted: Generator | None, count: int) -> tuple[Array | None, str]:
    if wanted is not None:
        return standard_anchors(wanted, count), f"the request ({wanted})"
    if "anchor_sizes" in checkpoint.config:
        ratios = checkpoint.config.get("anchor_ratios", (0.5, 1.0, 2.0))
        return detectron2_anchors(checkpoint.config["anchor_sizes"], ratios), "config.yaml"
    if checkpoint.anchors is not None:
        return standard_anchors(checkpoint.anchors, count), f"the {checkpoint.layout} layout ({checkpoint.anchors})"
    if checkpoint.layout == "detectron2" and count == 15:
        return standard_anchors("detectron2", count), "detectron2's default"
    return None, ""


def delta_weights(arrays: Arrays, checkpoint: Checkpoint, given: Weights4 | None) -> tuple[Weights4, str, list[str]]:
    """What the box deltas are divided by, how that was decided, and notes when the numbers suggest otherwise."""
    ratio = float(_rms(arrays[f"{_BOX_LAYER}.weight"]) / (_rms(arrays[f"{_CLASS_LAYER}.weight"]) or 1.0))
    detected = UNIT if ratio < FOLDED_BELOW else NORMALISED
    found = f"bbox_pred is {ratio:.3g} of cls_score in size, which suggests {_text(detected)}"
    said = checkpoint.config.get("delta_weights")
    stated = None if said is None else weights4(said, "bbox_reg_weights of config.yaml")
    for weights, origin in ((given, "given"), (stated, "config.yaml"), (checkpoint.delta_weights, "layout")):
        if weights is not None:
            notes = [] if weights == detected else [f"delta weights are {_text(weights)} ({origin}), but {found}"]
            return weights, origin, notes
    unsure = FOLDED_BELOW / 2 < ratio < FOLDED_BELOW * 2
    notes = [f"delta weights are a guess: {found}; confirm them, or state --delta-weights"] if unsure else []
    return detected, "detected from the norm of bbox_pred", [found, *notes]


def contradictions(config: Mapping[str, Any], architecture: Architecture, cell: Array) -> list[str]:
    """Where config.yaml says something else than the tensors, which are followed."""
    said = {"classes": architecture.classes, "attributes": architecture.attributes, "depth": architecture.depth}
    notes = [
        f"config.yaml states {name} {config[name]}, the tensors have {found}; the tensors are followed"
        for name, found in said.items()
        if name in config and config[name] != found
    ]
    if "anchor_sizes" in config:
        stated = detectron2_anchors(config["anchor_sizes"], config.get("anchor_ratios", (0.5, 1.0, 2.0)))
        if stated.shape != cell.shape or not np.allclose(stated, cell, rtol=0, atol=1e-3):
            notes.append("the stored anchors are not those of config.yaml's sizes; the stored ones are followed")
    return notes


def own(arrays: Arrays) -> dict[str, torch.Tensor]:
    """As torch tensors, without copying."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0


def _text(weights: Weights4) -> str:
    return ",".join(f"{w:g}" for w in weights)
