"""The peers' way, transcribed plainly: what featx is measured against.

The network is the Hugging Face LXMERT demo's: convolution, batch norm, ReLU and sum as separate steps on NCHW tensors;
all regions through res5 at once. Box selection is the demo's "maxnms" (a rising NMS threshold on regressed boxes) and
MILVLG's (a Python loop of NMS over the classes). Same tensors in, same boxes out as featx: the benchmarks check that
before they time anything. Where the peers call torchvision or an extension of their own (NMS, RoIPool), they are given
our compiled operators, which are faster; RoIPool on one thread, because torchvision's CPU kernel knows no other way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from featx import ops

Tensors = Mapping[str, torch.Tensor]


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm in evaluation mode."""

    def __init__(self, tensors: Tensors, name: str, stride: int = 1, padding: int = 0, dilation: int = 1) -> None:
        super().__init__()
        weight = tensors[f"{name}.weight"]
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(weight.shape[0])
        self.conv.load_state_dict({"weight": weight})
        leaves = ("weight", "bias", "running_mean", "running_var")
        self.norm.load_state_dict({leaf: tensors[f"{name}.norm.{leaf}"] for leaf in leaves}, strict=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.conv(x))
        return out


class Block(nn.Module):
    """A bottleneck with ReLU and sum as their own steps."""

    def __init__(self, tensors: Tensors, name: str, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        short = f"{name}.shortcut"
        self.shortcut = ConvNorm(tensors, short, stride) if f"{short}.weight" in tensors else None
        self.conv1 = ConvNorm(tensors, f"{name}.conv1", stride)
        self.conv2 = ConvNorm(tensors, f"{name}.conv2", 1, dilation, dilation)
        self.conv3 = ConvNorm(tensors, f"{name}.conv3")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu_(self.conv1(x))
        out = functional.relu_(self.conv2(out))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return functional.relu_(out)


def stage(tensors: Tensors, name: str, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """The blocks of one stage."""
    blocks: list[nn.Module] = []
    while f"{name}.{len(blocks)}.conv1.weight" in tensors:
        blocks.append(Block(tensors, f"{name}.{len(blocks)}", 1 if blocks else stride, dilation))
    return nn.Sequential(*blocks)


class Peer(nn.Module):
    """The demo's detector, stage by stage."""

    def __init__(self, tensors: Tensors, delta_weights: tuple[float, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(tensors, "backbone.stem.conv1", 2, 3)
        self.res2 = stage(tensors, "backbone.res2")
        self.res3 = stage(tensors, "backbone.res3", 2)
        self.res4 = stage(tensors, "backbone.res4", 2)
        self.res5 = stage(tensors, "roi_heads.res5", 1, 2)
        self.tensors, self.delta_weights = tensors, delta_weights

    def pooled_stem(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(functional.relu_(self.stem(x)), 3, 2, 0, ceil_mode=True)

    def head(self, res4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Objectness ``[M]`` and deltas ``[M, 4]`` of one picture."""
        p, t = "proposal_generator.rpn_head.", self.tensors
        hidden = functional.relu(functional.conv2d(res4, t[p + "conv.weight"], t[p + "conv.bias"], padding=1))
        logits = functional.conv2d(hidden, t[p + "objectness_logits.weight"], t[p + "objectness_logits.bias"])
        deltas = functional.conv2d(hidden, t[p + "anchor_deltas.weight"], t[p + "anchor_deltas.bias"])
        return logits.permute(0, 2, 3, 1).flatten(), deltas.permute(0, 2, 3, 1).reshape(-1, 4)

    def propose(
        self, logits: torch.Tensor, deltas: torch.Tensor, anchors: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        """6000 best, decode, clip, drop empty, NMS 0.7, 300 best."""
        _, order = logits.sort(descending=True, stable=True)
        order = order[:6000]
        boxes = clip(decode(anchors[order], deltas[order], (1.0, 1.0, 1.0, 1.0)), size)
        filled = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        boxes, scores = boxes[filled], logits[order][filled]
        return boxes[ops.nms(boxes, scores, 0.7)[:300]]

    def predict(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        p, t = "roi_heads.box_predictor.", self.tensors
        scores = functional.linear(features, t[p + "cls_score.weight"], t[p + "cls_score.bias"])
        deltas = functional.linear(features, t[p + "bbox_pred.weight"], t[p + "bbox_pred.bias"])
        embedded = t[p + "cls_embedding.weight"][scores.argmax(-1)]
        hidden = functional.linear(torch.cat([features, embedded], -1), t[p + "fc_attr.weight"], t[p + "fc_attr.bias"])
        attributes = functional.linear(functional.relu(hidden), t[p + "attr_score.weight"], t[p + "attr_score.bias"])
        return scores, deltas, attributes

    def postprocess(
        self, scores: torch.Tensor, deltas: torch.Tensor, attributes: torch.Tensor, proposals: torch.Tensor,
        size: tuple[int, int], thresholds: tuple[float, ...],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Every class decoded, best class taken, NMS with a rising threshold: rows, boxes, ids."""
        every = decode(proposals, deltas, self.delta_weights)
        probs = scores.softmax(-1)[:, :-1]
        attributes[..., :-1].softmax(-1).max(-1)
        best, ids = probs.max(-1)
        boxes = clip(every.view(len(probs), -1, 4)[torch.arange(len(probs)), ids], size)
        keep = torch.empty(0, dtype=torch.int64)
        for threshold in thresholds:
            keep = ops.nms(boxes, best, threshold)[:36]
            if len(keep) == 36:
                break
        return keep, boxes[keep], ids[keep]


def decode(boxes: torch.Tensor, deltas: torch.Tensor, weights: tuple[float, ...]) -> torch.Tensor:
    """detectron2's Box2BoxTransform in its plain steps, over ``[R, 4K]`` deltas."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height
    limit = math.log(1000 / 16)
    dx, dy = deltas[:, 0::4] / weights[0], deltas[:, 1::4] / weights[1]
    dw, dh = (deltas[:, 2::4] / weights[2]).clamp(max=limit), (deltas[:, 3::4] / weights[3]).clamp(max=limit)
    cx, cy = dx * width[:, None] + x[:, None], dy * height[:, None] + y[:, None]
    w, h = dw.exp() * width[:, None], dh.exp() * height[:, None]
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1).flatten(1)


def clip(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Into the picture."""
    height, width = size
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], -1)


def numpy_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Greedy NMS as Caffe's py_cpu_nms does it: a loop over the survivors with array arithmetic inside."""
    b, order = boxes.numpy(), scores.numpy().argsort(kind="stable")[::-1]
    area = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    keep = []
    while order.size:
        i, rest = order[0], order[1:]
        keep.append(i)
        w = np.minimum(b[i, 2], b[rest, 2]) - np.maximum(b[i, 0], b[rest, 0]) + 1
        h = np.minimum(b[i, 3], b[rest, 3]) - np.maximum(b[i, 1], b[rest, 1]) + 1
        inter = np.maximum(w, 0) * np.maximum(h, 0)
        order = rest[inter / (area[i] + area[rest] - inter) < threshold]
    return torch.from_numpy(np.array(keep, np.int64))


def compiled_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """The same through one compiled call, as MILVLG's extension does it (ours, which is the faster)."""
    return ops.nms(boxes, scores, threshold, inclusive=True, plus_one=True)


def select_by_class_loop(
    boxes: torch.Tensor, probs: torch.Tensor, least: int, most: int, nms: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """MILVLG's and Caffe's selection: one NMS per foreground class in a Python loop. Background is the last column."""
    best = torch.zeros(len(boxes))
    for c in range(probs.shape[1] - 1):
        scores = probs[:, c].contiguous()
        keep = nms(boxes, scores, 0.3)
        best[keep] = torch.where(scores[keep] > best[keep], scores[keep], best[keep])
    keep = (best >= 0.2).nonzero()[:, 0]
    if not least <= len(keep) <= most:
        order = best.sort(descending=True, stable=True).indices
        keep = order[: least if len(keep) < least else most]
    return keep


def pool(res4: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
    """All regions at once, NCHW, on one thread."""
    rois, threads = torch.cat([proposals.new_zeros(len(proposals), 1), proposals], 1), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return ops.roi_pool(res4.contiguous(), rois, 14, 1 / 16)
    finally:
        torch.set_num_threads(threads)
