"""Caffe's ``.caffemodel`` of the bottom-up-attention network, in the names of the normal form.

Message layout: BVLC/caffe ``caffe.proto`` (NetParameter, LayerParameter, V1LayerParameter, BlobProto); layer names:
peteanderson80/bottom-up-attention ``models/vg/ResNet-101``.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.weights.architecture import PREDICTOR, RPN
from featx_extractors.weights.checkpoint import UNIT, Checkpoint
from featx_extractors.weights.container import INCOMPLETE
from featx_extractors.weights.protobuf import WireError, fields, varints

# Field numbers of a layer message: in NetParameter, then of its name and its blobs.
_LAYERS = {100: (1, 7), 2: (4, 6)}  # LayerParameter, V1LayerParameter
_DENSE = {
    "rpn_conv/3x3": f"{RPN}.conv",
    "rpn_cls_score": f"{RPN}.objectness_logits",
    "rpn_bbox_pred": f"{RPN}.anchor_deltas",
    "cls_score": f"{PREDICTOR}.cls_score",
    "bbox_pred": f"{PREDICTOR}.bbox_pred",
    "cls_embedding": f"{PREDICTOR}.cls_embedding",
    "fc_attr": f"{PREDICTOR}.fc_attr",
    "attr_score": f"{PREDICTOR}.attr_score",
}
_STEM = {"conv1": "conv", "bn_conv1": "bn", "scale_conv1": "scale"}
_BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_PREFIXES = {"res": "conv", "bn": "bn", "scale": "scale"}


def read(path: Path) -> Checkpoint:
    """The checkpoint of a ``.caffemodel``; large files are mapped, not read.

    Batch norm statistics are multiplied by the reciprocal of Caffe's moving-average factor, as its layer does.
    Raises WeightsError for a file that is cut short, no protobuf, or not of the ResNet.
    """
    try:
        with path.open("rb") as file:
            layers = dict(_layers(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))))
    except (WireError, ValueError) as error:
        raise WeightsError(f"{path} is no complete caffemodel: {error}", INCOMPLETE) from None
    arrays: dict[str, Array] = {}
    unused = []
    for name, blobs in layers.items():
        converted = _convert(path, name, blobs)
        if converted is None:
            unused.append(name)
        else:
            arrays |= converted
    if "backbone.stem.conv1.weight" not in arrays:
        raise WeightsError(
            f"{path} is a caffemodel of another network: its layers are {', '.join(list(layers)[:8]) or 'empty'}",
            "the bottom-up-attention ResNet starts with conv1, bn_conv1, res2a_branch1",
        )
    notes = [f"layers without use here: {', '.join(unused[:8])}"] if unused else []
    return Checkpoint("caffe", arrays, delta_weights=UNIT, anchors="caffe", notes=tuple(notes))


def _layers(data: memoryview) -> Iterator[tuple[str, list[Array]]]:
    """Name and blobs of every layer that has blobs."""
    seen: set[str] = set()
    for number, message in fields(data):
        if number not in _LAYERS or isinstance(message, int):
            continue
        name_field, blob_field = _LAYERS[number]
        name, blobs = "", []
        for field, value in fields(message):
            if field == name_field and not isinstance(value, int):
                name = bytes(value).decode("utf-8", "replace")
            elif field == blob_field and not isinstance(value, int):
                blobs.append(_blob(value))
        if blobs and name in seen:
            raise WireError(f"layer {name!r} occurs twice")
        if blobs:
            seen.add(name)
            yield name, blobs


def _blob(data: memoryview) -> Array:
    """One BlobProto: float32 or float64 values with a shape, or with the old four sizes."""
    shape: list[int] | None = None
    sizes = [1, 1, 1, 1]
    chunks: list[Array] = []
    for field, value in fields(data):
        if isinstance(value, int):
            if 1 <= field <= 4:  # num, channels, height, width
                sizes[field - 1] = value
        elif field == 5:
            chunks.append(np.frombuffer(value, "<f4"))
        elif field == 8:
            chunks.append(np.frombuffer(value, "<f8"))
        elif field == 7:
            shape = [d for n, v in fields(value) if n == 1 for d in ([v] if isinstance(v, int) else varints(v))]
    values = chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, "<f4"), *chunks])
    dims = sizes if shape is None else shape
    if math.prod(dims) != values.size:
        raise WireError(f"a blob of shape {dims} has {values.size} values")
    return values.reshape(dims)


def _convert(path: Path, layer: str, blobs: list[Array]) -> dict[str, Array] | None:
    """Tensors of one layer, or None for a layer the extractor does not use."""
    if target := _DENSE.get(layer):
        rank = 4 if target.startswith(RPN) else 2
        if layer == "cls_embedding":
            return {f"{target}.weight": _rank(_expect(path, layer, blobs, 1)[0], rank)}
        weight, bias = _expect(path, layer, blobs, 2)
        return {f"{target}.weight": _rank(weight, rank), f"{target}.bias": _rank(bias, 1)}
    if (place := _backbone(layer)) is None:
        return None
    target, kind = place
    if kind == "conv":
        return {f"{target}.weight": _expect(path, layer, blobs, 1)[0]}
    if kind == "scale":
        gamma, beta = _expect(path, layer, blobs, 2)
        return {f"{target}.norm.weight": _rank(gamma, 1), f"{target}.norm.bias": _rank(beta, 1)}
    mean, variance, factor = _expect(path, layer, blobs, 3)
    if factor.size != 1 or not factor.reshape(-1)[0] > 0:
        raise WeightsError(
            f"{path}: layer {layer} has the moving-average factor {factor.reshape(-1)[:4].tolist()}, expected one "
            "positive number: its statistics were never accumulated",
            "use the final snapshot of the training",
        )
    scale = np.float32(1) / factor.reshape(-1)[0]
    return {
        f"{target}.norm.running_mean": _rank(mean, 1) * scale,
        f"{target}.norm.running_var": _rank(variance, 1) * scale,
    }


def _backbone(layer: str) -> tuple[str, str] | None:
    """``res4b22_branch2c`` -> (``backbone.res4.22.conv3``, ``conv``); None for a layer that is not of the ResNet."""
    if layer in _STEM:
        return "backbone.stem.conv1", _STEM[layer]
    match = re.fullmatch(r"(res|bn|scale)([2-5])([a-z])(\d{0,3})_branch(1|2[abc])", layer)
    if match is None:
        return None
    prefix, level, letter, number, branch = match.groups()
    stage = "roi_heads.res5" if level == "5" else f"backbone.res{level}"
    block = int(number) if number else ord(letter) - ord("a")
    return f"{stage}.{block}.{_BRANCHES[branch]}", _PREFIXES[prefix]


def _expect(path: Path, layer: str, blobs: list[Array], count: int) -> list[Array]:
    if len(blobs) != count:
        raise WeightsError(
            f"{path}: layer {layer} has {len(blobs)} blobs, expected {count}",
            "the file belongs to another network, or to another version of this one",
        )
    return blobs


def _rank(blob: Array, rank: int) -> Array:
    """Without the leading sizes of 1 with which old Caffe pads every blob to four axes."""
    while blob.ndim > rank and blob.shape[0] == 1:
        blob = blob[0]
    return blob
