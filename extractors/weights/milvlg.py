"""MILVLG's ``bua-caffe-frcn-r101*.pth``: the Caffe network in detectron2's names, with its own predictor names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from featx.errors import WeightsError
from featx_extractors.weights.architecture import PREDICTOR
from featx_extractors.weights.checkpoint import UNIT, Checkpoint

_RENAMED = {"cls_embed": "cls_embedding", "attr_linear1": "fc_attr", "attr_linear2": "attr_score"}
_REFUSED = {
    "backbone.stem.norm.": "the pre-activation ResNet-152 of MILVLG, a different network",
    "roi_heads.res5_bn.": "the pre-activation ResNet-152 of MILVLG, a different network",
    "roi_heads.attribute_predictor.": "MILVLG's own detectron2 training, whose attribute head has another form",
}


def is_milvlg(names: Collection[str]) -> bool:
    """Whether tensor names are those of a MILVLG file."""
    own = (*_REFUSED, *(f"{PREDICTOR}.{name}." for name in _RENAMED))
    return any(name.startswith(own) for name in names)


def rename(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The same checkpoint under the normal form's names. Raises WeightsError for the unsupported variants."""
    for prefix, what in _REFUSED.items():
        if any(name.startswith(prefix) for name in checkpoint.arrays):
            raise WeightsError(f"{path} is {what}", "use bua-caffe-frcn-r101.pth (36 or 10-100 boxes)")
    arrays = {_renamed(name): array for name, array in checkpoint.arrays.items()}
    return replace(checkpoint, layout="milvlg", arrays=arrays, delta_weights=UNIT)


def _renamed(name: str) -> str:
    head, _, leaf = name.removeprefix(f"{PREDICTOR}.").partition(".")
    return f"{PREDICTOR}.{_RENAMED[head]}.{leaf}" if name.startswith(PREDICTOR) and head in _RENAMED else name
