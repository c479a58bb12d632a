"""The weights of the full-size reference, recomputed from their published recipe (README of the references).

Weights of 65 million parameters are not stored there; integers and correctly rounded float64 give the same bits
everywhere. ``recipe.json`` carries the shape, first values and sums of every parameter, which are checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.folder import Arrays

Array = np.ndarray[Any, Any]
GOLDEN, MIX1, MIX2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def random_bits(seed: int, name: str, count: int) -> Array:
    """SplitMix64 keyed by the sha256 of the parameter's name: ``count`` uint64."""
    digest = hashlib.sha256(f"featx-fixture-v1|{seed}|{name}".encode()).digest()
    with np.errstate(over="ignore"):
        z = np.uint64(int.from_bytes(digest[:8], "little")) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * MIX1
        z = (z ^ (z >> np.uint64(27))) * MIX2
        out: Array = z ^ (z >> np.uint64(31))
        return out


def normal(seed: int, name: str, shape: list[int], std: float) -> Array:
    """Nearly normal float64: the sum of four 16-bit integers, centred and scaled."""
    z, mask = random_bits(seed, name, math.prod(shape)), np.uint64(0xFFFF)
    total = (z & mask) + ((z >> np.uint64(16)) & mask) + ((z >> np.uint64(32)) & mask) + (z >> np.uint64(48))
    out: Array = ((total.astype(np.int64) - 131070) / 37837.0 * float(std)).reshape(shape)
    return out


def standard_deviation(name: str, shape: list[int]) -> float:
    """sqrt(gain / fan in); gain 1 for the layers whose output is not rectified."""
    if name.endswith("cls_embedding.weight"):
        return 0.5
    linear = ("box_predictor" in name and "fc_attr" not in name) or "objectness" in name or "anchor_deltas" in name
    return math.sqrt((1.0 if linear else 2.0) / math.prod(shape[1:]))


def raw_parameter(seed: int, name: str, shape: list[int]) -> Array:
    """A parameter before its power-of-two scale."""
    if len(shape) >= 2:
        return normal(seed, name, shape, standard_deviation(name, shape)).astype(np.float32)
    if name.endswith("norm.weight"):
        base = 0.25 if ".conv3." in name else 1.0
        return (base + 0.1 * base * normal(seed, name, shape, 1.0)).astype(np.float32)
    return normal(seed, name, shape, 0.1).astype(np.float32)


def recipe_tensors(folder: Path, calibrated: Arrays) -> dict[str, Array]:
    """Every tensor of the full-size network, each checked against the sums in ``recipe.json``."""
    recipe = json.loads((folder / "recipe.json").read_text())
    tensors = {name: calibrated[name] for name in calibrated}
    for name, facts in recipe["parameters"].items():
        if name in tensors:
            continue
        scale = np.float32(recipe["weight_scales"].get(name, 1))
        value = raw_parameter(recipe["seed"], name, facts["shape"]) * scale
        if not math.isclose(float(value.astype(np.float64).sum()), facts["sum"], rel_tol=1e-9, abs_tol=1e-9):
            raise ValueError(f"{name}: the recipe gives another sum than recipe.json")
        if not math.isclose(float(np.abs(value.astype(np.float64)).sum()), facts["abs_sum"], rel_tol=1e-9):
            raise ValueError(f"{name}: the recipe gives another absolute sum than recipe.json")
        tensors[name] = value
    return tensors
