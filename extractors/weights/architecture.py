"""Architecture: the sizes of a ResNet-C4 Faster R-CNN, read from tensor shapes and checked against all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featx.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]

NORM_LEAVES = ("weight", "bias", "running_mean", "running_var")
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
RPN = "proposal_generator.rpn_head"
PREDICTOR = "roi_heads.box_predictor"
DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
SHOWN = 5  # tensors of each kind of fault that a message lists


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network. The defaults are those of the Visual Genome model (Anderson et al. 2018).

    stem: channels of the 7x7 convolution; width, out: inner and outer channels of res2, doubled by every stage;
    blocks: bottlenecks of res2 to res5; anchors: per position; attributes: 0 for a model without that head.
    """

    stem: int = 64
    width: int = 64
    out: int = 256
    blocks: tuple[int, int, int, int] = (3, 4, 23, 3)
    rpn_hidden: int = 512
    anchors: int = 12
    classes: int = 1600
    attributes: int = 400
    embedding: int = 256
    attribute_hidden: int = 512

    @property
    def depth(self) -> int | None:
        """50, 101 or 152; None for other block counts."""
        return DEPTHS.get(self.blocks)

    @property
    def dim(self) -> int:
        """Length of a region feature."""
        return self.out * 8

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for reports."""
        return {**asdict(self), "blocks": list(self.blocks), "depth": self.depth, "dim": self.dim}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the normal form."""
        shapes = _conv("backbone.stem.conv1", self.stem, 3, 7)
        inner = self.stem
        for level, count in enumerate(self.blocks):
            prefix = "roi_heads.res5" if level == 3 else f"backbone.res{level + 2}"
            width, out = self.width << level, self.out << level
            for block in range(count):
                shapes |= _bottleneck(f"{prefix}.{block}", inner, width, out, shortcut=block == 0)
                inner = out
        return shapes | self._rpn_shapes() | self._predictor_shapes()

    def _rpn_shapes(self) -> dict[str, tuple[int, ...]]:
        hidden = self.rpn_hidden
        return {
            CELL_ANCHORS: (self.anchors, 4),
            f"{RPN}.conv.weight": (hidden, self.out * 4, 3, 3),
            f"{RPN}.conv.bias": (hidden,),
            f"{RPN}.objectness_logits.weight": (self.anchors, hidden, 1, 1),
            f"{RPN}.objectness_logits.bias": (self.anchors,),
            f"{RPN}.anchor_deltas.weight": (4 * self.anchors, hidden, 1, 1),
            f"{RPN}.anchor_deltas.bias": (4 * self.anchors,),
        }

    def _predictor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = _linear(f"{PREDICTOR}.cls_score", self.classes + 1, self.dim)
        shapes |= _linear(f"{PREDICTOR}.bbox_pred", 4 * self.classes, self.dim)
        if self.attributes:
            shapes[f"{PREDICTOR}.cls_embedding.weight"] = (self.classes + 1, self.embedding)
            shapes |= _linear(f"{PREDICTOR}.fc_attr", self.attribute_hidden, self.dim + self.embedding)
            shapes |= _linear(f"{PREDICTOR}.attr_score", self.attributes + 1, self.attribute_hidden)
        return shapes

    @classmethod
    def of(cls, shapes: Shapes, file: str) -> Architecture:
        """Read the sizes from a few tensors. Raises WeightsError naming those that are missing."""
        attributes = any(name.startswith((f"{PREDICTOR}.attr_score", f"{PREDICTOR}.fc_attr")) for name in shapes)
        where = {
            "stem": ("backbone.stem.conv1.weight", 0),
            "width": ("backbone.res2.0.conv1.weight", 0),
            "out": ("backbone.res2.0.conv3.weight", 0),
            "rpn_hidden": (f"{RPN}.conv.weight", 0),
            "anchors": (f"{RPN}.anchor_deltas.bias", 0),
            "classes": (f"{PREDICTOR}.cls_score.weight", 0),
        }
        if attributes:
            where |= {
                "attributes": (f"{PREDICTOR}.attr_score.weight", 0),
                "embedding": (f"{PREDICTOR}.cls_embedding.weight", 1),
                "attribute_hidden": (f"{PREDICTOR}.fc_attr.weight", 0),
            }
        require(shapes, [name for name, _ in where.values()], file)
        sizes = dict.fromkeys(("attributes", "embedding", "attribute_hidden"), 0)
        sizes |= {field: _size(shapes[name], axis) for field, (name, axis) in where.items()}
        sizes["anchors"] //= 4
        sizes["classes"] -= 1
        sizes["attributes"] -= attributes
        return cls(blocks=_blocks(shapes), **sizes)

    def check(self, shapes: Shapes, file: str) -> None:
        """Raise WeightsError unless ``shapes`` has exactly the tensors of this architecture."""
        expected = self.shapes()
        missing = [f"{n} {list(s)}" for n, s in expected.items() if n not in shapes]
        wrong = [
            f"{n} is {list(shapes[n])}, expected {list(s)}"
            for n, s in expected.items()
            if n in shapes and tuple(shapes[n]) != s
        ]
        unexpected = [n for n in shapes if n not in expected]
        faults = [_listed("missing", missing), _listed("of another shape", wrong), _listed("unexpected", unexpected)]
        if any(faults):
            raise WeightsError(
                f"{file} does not fit a ResNet-{self.depth or self.blocks}-C4 Faster R-CNN with {self.classes} classes "
                f"and {self.attributes} attributes: {'; '.join(filter(None, faults))}",
                "the file may be cut short or belong to another network; get a complete copy and check its sha256",
            )


def require(names: Mapping[str, Any], wanted: list[str], file: str) -> None:
    """Raise WeightsError when ``names`` lacks one of ``wanted``."""
    absent = [name for name in wanted if name not in names]
    if absent:
        raise WeightsError(
            f"{file} lacks tensors: {_listed('missing', absent)}; it holds {len(names)} tensors",
            "the file may be cut short or belong to another network; get a complete copy and check its sha256",
        )


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} {what} ({shown})" if names else ""


def _size(shape: tuple[int, ...], axis: int) -> int:
    return shape[axis] if axis < len(shape) else 0


def _conv(name: str, out: int, inner: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner, kernel, kernel), **{f"{name}.norm.{leaf}": (out,) for leaf in NORM_LEAVES}}


def _linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def _bottleneck(name: str, inner: int, width: int, out: int, *, shortcut: bool) -> dict[str, tuple[int, ...]]:
    shapes = _conv(f"{name}.shortcut", out, inner, 1) if shortcut else {}
    return {
        **shapes,
        **_conv(f"{name}.conv1", width, inner, 1),
        **_conv(f"{name}.conv2", width, width, 3),
        **_conv(f"{name}.conv3", out, width, 1),
    }


def _blocks(shapes: Shapes) -> tuple[int, int, int, int]:
    """Blocks of res2 to res5: up to the highest index that occurs, so that a gap shows up as missing tensors."""
    counts = [1, 1, 1, 1]
    for name in shapes:
        if match := re.match(r"(?:backbone\.res([234])|roi_heads\.res(5))\.(\d{1,3})\.", name):
            level = int(match[1] or match[2]) - 2
            counts[level] = max(counts[level], int(match[3]) + 1)
    return counts[0], counts[1], counts[2], counts[3]
