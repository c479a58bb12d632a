"""The small reference checkpoint, rewritten into every foreign layout, from the layouts' descriptions alone."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

CELL = "proposal_generator.anchor_generator.cell_anchors.0"
RPN = "proposal_generator.rpn_head"
HEAD = "roi_heads.box_predictor"


def reference(shared: Path) -> Arrays:
    """Every tensor of the fixture, with its training counters: the Hugging Face layout."""
    return load_file(shared / "fixtures/frcnn/hf/weights.safetensors")


def without_counters(arrays: Arrays) -> Arrays:
    return {name: a for name, a in arrays.items() if not name.endswith("num_batches_tracked")}


def as_torch(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}


def background_first(arrays: Arrays) -> Arrays:
    """Rows as Caffe and MILVLG have them: background at 0, deltas for it, (background, foreground) objectness."""
    out, rng = dict(arrays), np.random.default_rng(5)
    for layer in ("cls_score.weight", "cls_score.bias", "cls_embedding.weight", "attr_score.weight", "attr_score.bias"):
        a = arrays[f"{HEAD}.{layer}"]
        out[f"{HEAD}.{layer}"] = np.concatenate([a[-1:], a[:-1]])
    for leaf in ("weight", "bias"):
        deltas = arrays[f"{HEAD}.bbox_pred.{leaf}"]
        noise = rng.standard_normal((4, *deltas.shape[1:])).astype(np.float32)
        out[f"{HEAD}.bbox_pred.{leaf}"] = np.concatenate([noise, deltas])
        logit = arrays[f"{RPN}.objectness_logits.{leaf}"]
        out[f"{RPN}.objectness_logits.{leaf}"] = np.concatenate([-logit / 2, logit / 2])  # the difference is exact
    return out


def milvlg(arrays: Arrays) -> Arrays:
    names = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
    out = {}
    for name, a in background_first(without_counters(arrays)).items():
        for ours, theirs in names.items():
            name = name.replace(f"{HEAD}.{ours}.", f"{HEAD}.{theirs}.")
        out[name] = a
    return out


def airsplay_pickle(arrays: Arrays, *, protocol: int = 3, author: str = "Caffe", old_numpy: bool = True) -> bytes:
    data = pickle.dumps({"model": without_counters(arrays), "__author__": author}, protocol)
    # numpy before 2 called its core by another name; protocols below 4 spell names out, so this stays well-formed.
    return data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if old_numpy else data


# --- Caffe ------------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes | int) -> bytes:
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(a: np.ndarray[Any, Any], *, old: bool = False, double: bool = False) -> bytes:
    if old:
        sizes = [1] * (4 - a.ndim) + list(a.shape)
        shape = b"".join(field(i, n) for i, n in enumerate(sizes, 1))
    else:
        shape = field(7, field(1, b"".join(varint(n) for n in a.shape)))
    return (field(8, a.astype("<f8").tobytes()) if double else field(5, a.astype("<f4").tobytes())) + shape


def layer(name: str, kind: str, blobs: list[np.ndarray[Any, Any]], *, old: bool = False, double: bool = False) -> bytes:
    packed = [blob(b, old=old, double=double) for b in blobs]
    if old:  # V1LayerParameter: bottom 2, top 3, name 4, type 5 (an enum), blobs 6
        body = field(2, b"data") + field(4, name.encode()) + field(5, 4) + b"".join(field(6, b) for b in packed)
        return field(2, body)
    # LayerParameter: name 1, type 2, bottom 3, top 4, a loss weight (5, fixed32), blobs 7, phase 10
    body = field(1, name.encode()) + field(2, kind.encode()) + field(3, b"data") + field(4, name.encode())
    body += varint(5 << 3 | 5) + struct.pack("<f", 1.0) + b"".join(field(7, b) for b in packed) + field(10, 1)
    return field(100, body)


def caffe_name(level: int, block: int, last: str) -> str:
    """res2 and res5 count their blocks a, b, c; res3 and res4 of the 101-layer network a, b1, b2, ..."""
    if block == 0:
        return f"{level}a{last}"
    return f"{level}{'abc'[block]}{last}" if level in (2, 5) else f"{level}b{block}{last}"


def caffemodel(arrays: Arrays, *, old: bool = False, double: bool = False, factor: float = 4.0) -> bytes:
    """A NetParameter; the statistics are stored times ``factor`` (a power of two keeps them exact)."""
    arrays = background_first(without_counters(arrays))
    out = [field(1, b"VGG_like_name"), layer("data", "Input", [], old=old)]

    def conv_bn(source: str, suffixes: tuple[str, str, str]) -> None:
        norm = [arrays[f"{source}.norm.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        statistics = [norm[0] * np.float32(factor), norm[1] * np.float32(factor), np.array([factor], np.float32)]
        for name, kind, blobs in zip(
            suffixes,
            ("Convolution", "BatchNorm", "Scale"),
            ([arrays[f"{source}.weight"]], statistics, norm[2:]),
            strict=True,
        ):
            out.append(layer(name, kind, blobs, old=old, double=double))

    conv_bn("backbone.stem.conv1", ("conv1", "bn_conv1", "scale_conv1"))
    branches = {"shortcut": "_branch1", "conv1": "_branch2a", "conv2": "_branch2b", "conv3": "_branch2c"}
    for level, count in ((2, 3), (3, 4), (4, 23), (5, 3)):
        stage = "roi_heads.res5" if level == 5 else f"backbone.res{level}"
        for block in range(count):
            for ours, theirs in branches.items():
                if ours != "shortcut" or block == 0:
                    base = caffe_name(level, block, theirs)
                    conv_bn(f"{stage}.{block}.{ours}", (f"res{base}", f"bn{base}", f"scale{base}"))
    heads = {
        "rpn_conv/3x3": f"{RPN}.conv",
        "rpn_cls_score": f"{RPN}.objectness_logits",
        "rpn_bbox_pred": f"{RPN}.anchor_deltas",
        **{name: f"{HEAD}.{name}" for name in ("cls_score", "bbox_pred", "fc_attr", "attr_score")},
    }
    for name, source in heads.items():
        blobs = [arrays[f"{source}.weight"], arrays[f"{source}.bias"]]
        out.append(layer(name, "InnerProduct", blobs, old=old, double=double))
    out.append(layer("cls_embedding", "Embed", [arrays[f"{HEAD}.cls_embedding.weight"]], old=old, double=double))
    out.append(layer("rel_heatmap", "InnerProduct", [np.ones((3, 2), np.float32)], old=old, double=double))
    out.append(layer("pool5", "Pooling", [], old=old))
    return b"".join(out)
