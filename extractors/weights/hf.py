"""The Hugging Face layout: safetensors or a torch state dict, and what ``config.yaml`` beside it states.

Also plain detectron2 state dicts, whose names are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.weights.architecture import PREDICTOR
from featx_extractors.weights.checkpoint import Checkpoint, Layout, numbers

# What is read from config.yaml, and where it stands there (any letter case, with or without an outer MODEL section).
_FACTS = {
    "max_pool": "model.max_pool",
    "pixel_mean": "model.pixel_mean",
    "pixel_std": "model.pixel_std",
    "format": "input.format",
    "min_size": "input.min_size_test",
    "max_size": "input.max_size_test",
    "depth": "resnets.depth",
    "stride_in_1x1": "resnets.stride_in_1x1",
    "anchor_sizes": "anchor_generator.sizes",
    "anchor_ratios": "anchor_generator.aspect_ratios",
    "anchor_offset": "anchor_generator.offset",
    "rpn_delta_weights": "rpn.bbox_reg_weights",
    "delta_weights": "roi_box_head.bbox_reg_weights",
    "classes": "roi_heads.num_classes",
    "attributes": "roi_box_head.num_attrs",
}
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}
_NUMBER_LISTS = ("pixel_mean", "pixel_std", "anchor_sizes", "anchor_ratios", "rpn_delta_weights", "delta_weights")


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata of a safetensors file; bfloat16 is widened to float32. Raises WeightsError."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no complete safetensors file: {error}", "get a complete copy") from None
    return {n: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for n, t in tensors.items()}, metadata


def checkpoint(arrays: dict[str, Array]) -> Checkpoint:
    """A checkpoint of tensors under detectron2's names; the old leaves gamma and beta become weight and bias."""
    arrays = {_leaf(name): array for name, array in arrays.items()}
    trained_here = any(n.endswith("num_batches_tracked") or n.startswith(f"{PREDICTOR}.attr_score") for n in arrays)
    layout: Layout = "huggingface" if trained_here else "detectron2"
    return Checkpoint(layout, arrays)


def read_config(path: Path) -> dict[str, Any]:
    """The facts of a ``config.yaml`` that bear on the weights; absent ones are left out.

    Raises WeightsError when the file is no YAML mapping, or a list of numbers in it is none.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", "correct it, or move the weights away from it") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path} is no mapping", "correct it, or move the weights away from it")
    facts = {name: _find(data, where) for name, where in _FACTS.items()}
    for name in _NUMBER_LISTS:
        if facts[name] is not None:
            facts[name] = numbers(facts[name], f"{path}: {_FACTS[name]}")
            if name in ("anchor_sizes", "anchor_ratios") and min(facts[name], default=0) <= 0:
                raise WeightsError(f"{path}: {_FACTS[name]} is {facts[name]}, expected positive numbers", "correct it")
    return {name: fact for name, fact in facts.items() if fact is not None}


def _leaf(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    return f"{stem}.{_OLD_LEAVES[leaf]}" if leaf in _OLD_LEAVES else name


def _find(data: Mapping[Any, Any], where: str) -> Any:
    """The value at ``section.key``, also below ``model``."""
    for path in (where.split("."), ["model", *where.split(".")]):
        found: Any = data
        for key in path:
            lowered = {str(k).lower(): v for k, v in found.items()} if isinstance(found, Mapping) else {}
            found = lowered.get(key)
        if found is not None:
            return found
    return None
