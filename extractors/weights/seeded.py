"""Untrained weights of any size, the same on every machine: for tests, benchmarks and trying the pipeline.

Convolutions are He-initialised (He et al. 2015) with rows that sum to zero, and batch norms are near identity, so
that activations keep their size through 101 layers and scores differ between regions. Values come from the raw
64-bit output of Philox (Salmon et al. 2011), which numpy keeps stable, through whole numbers and one rounding each.
"""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import torch

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.anchors import detectron2_anchors, family, standard_anchors
from featx_extractors.weights.architecture import CELL_ANCHORS, PREDICTOR, RPN, Architecture
from featx_extractors.weights.checkpoint import NORMALISED, UNIT
from featx_extractors.weights.normal import Header, Weights, anchors_sha256, tensors_sha256

FULL = Architecture()
TINY = Architecture(
    stem=16, width=8, out=32, blocks=(1, 1, 2, 2), rpn_hidden=32, classes=40, attributes=20, embedding=16,
    attribute_hidden=32,
)  # fmt: skip
_LOCATIONS = {"seeded": FULL, "seeded-tiny": TINY}
_PIXEL_VARIANCE = 1024.0  # of a photo's pixels within 7 x 7, about 32 squared

# Standard deviation of a head's weights, times sqrt(fan in); what enters the heads has a mean square near 1.
_HEADS = {
    f"{RPN}.conv": 1.5,
    f"{RPN}.objectness_logits": 1.5,
    f"{RPN}.anchor_deltas": 0.25,
    f"{PREDICTOR}.cls_score": 8.0,
    f"{PREDICTOR}.bbox_pred": 1.5,
    f"{PREDICTOR}.fc_attr": 1.5,
    f"{PREDICTOR}.attr_score": 4.0,
}


def seeded_location(location: str) -> Weights | None:
    """The weights of ``seeded`` or ``seeded-tiny``, with ``:SEED`` behind for another seed; None for other text."""
    match = re.fullmatch(r"(seeded|seeded-tiny)(?::(\d{1,18}))?", location)
    return seeded_weights(_LOCATIONS[match[1]], int(match[2] or 0)) if match else None


def seeded_weights(architecture: Architecture = FULL, seed: int = 0) -> Weights:
    """Untrained weights (``header.trained`` is False) with the labels "object 0", "attribute 0" and so on.

    The anchors are Caffe's, or a set of squares when their number is no multiple of three.
    """
    if architecture.classes < 1 or architecture.anchors < 1 or seed < 0:
        raise WeightsError(f"no weights can be made for {architecture} and seed {seed}", "use positive sizes")
    cell = standard_anchors("caffe", architecture.anchors)
    if cell is None:
        cell = detectron2_anchors([32 * 2 ** (k / 2) for k in range(architecture.anchors)], [1.0])
    arrays = {n: cell if n == CELL_ANCHORS else _values(n, s, seed) for n, s in architecture.shapes().items()}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    digest = tensors_sha256(tensors)
    header = Header(
        layout="seeded",
        source=f"seed {seed}",
        source_sha256=digest,
        sha256=digest,
        classes=architecture.classes,
        attribute_classes=architecture.attributes,
        delta_weights=NORMALISED,
        delta_weights_from="given",
        rpn_delta_weights=UNIT,
        anchors=family(cell),
        anchors_sha256=anchors_sha256(cell),
        legacy_plus_one=True,
        profile="caffe-36",
        objects=tuple(f"object {i}" for i in range(architecture.classes)),
        attributes=tuple(f"attribute {i}" for i in range(architecture.attributes)) or None,
        trained=False,
        notes=("untrained: the features mean nothing",),
    )
    return Weights(tensors, header)


def _values(name: str, shape: tuple[int, ...], seed: int) -> Array:
    layer, _, leaf = name.rpartition(".")
    fan_in = math.prod(shape[1:])
    if layer.endswith("cls_embedding"):
        return _uniform(name, shape, seed, 1.0)
    if layer in _HEADS and leaf == "bias":
        return _uniform(name, shape, seed, 0.5 if layer.endswith(("objectness_logits", "score")) else 0.05)
    if len(shape) > 1:
        return _uniform(name, shape, seed, _HEADS.get(layer, math.sqrt(2)) / math.sqrt(fan_in), centred=True)
    near = _uniform(name, shape, seed, 0.2 if leaf == "bias" else 0.05)
    gain, shift = _branch(layer)
    if leaf in ("bias", "running_mean"):
        return near + np.float32(shift if leaf == "bias" else 0)
    if leaf == "weight":
        return (1 + near) * np.float32(gain)
    return (1 + near) * np.float32(2 * _PIXEL_VARIANCE if layer.startswith("backbone.stem") else 1)


def _branch(layer: str) -> tuple[float, float]:
    """Scale and shift of a batch norm: small where a trunk's residual branch ends, so that 30 sums do not add up.

    The three blocks of the region head change their input more, which is what sets regions apart.
    """
    if ".conv3." not in layer:
        return 1.0, 0.0
    return (1.5, -0.5) if layer.startswith("roi_heads") else (0.25, 0.0)


def _uniform(name: str, shape: tuple[int, ...], seed: int, std: float, *, centred: bool = False) -> Array:
    """float32 values of a tensor, uniform with mean 0 and the given standard deviation.

    ``centred``: every row sums to zero, so that a unit sees the differences between its inputs and not the mean that
    ReLU gives them all.
    """
    key = int.from_bytes(hashlib.sha256(f"featx {seed} {name}".encode()).digest()[:16], "little")
    count = math.prod(shape)
    raw = np.random.Philox(key=key).random_raw((count + 1) // 2).astype("<u8", copy=False)
    whole = raw.view("<i4")[:count].reshape(shape[0], -1)
    if centred:
        whole = whole - whole.sum(axis=1, keepdims=True, dtype=np.int64) // whole.shape[1]
    values: Array = whole.astype(np.float32)
    values *= np.float32(std * math.sqrt(3) / 2**31)
    return values.reshape(shape)
