"""detectron2's network from its configuration and weights: read without executing either, checked, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from featx.errors import UsageError, WeightsError
from featx.schema import Array
from featx_extractors.profiles import get_profile
from featx_extractors.weights import airsplay, hf
from featx_extractors.weights.architecture import CELL_ANCHORS
from featx_extractors.weights.container import check_sha256, container, file_sha256
from featx_extractors.weights.conventions import as_float32
from featx_extractors.weights.hub import locate
from featx_extractors.weights.pickles import load_torch

ZOO = "model_zoo:"
DEFAULT_CONFIG = f"{ZOO}COCO-Detection/faster_rcnn_R_101_C4_3x.yaml"
# What makes a configuration one of the C4 family, whose regions go through res5.
_C4: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads",),
    "INPUT.FORMAT": ("BGR", "RGB"),
}
_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    "pickle": lambda path: airsplay.read(path).arrays,
    "torch": load_torch,
    "safetensors": lambda path: hf.read_safetensors(path)[0],
}


@dataclass(frozen=True)
class Detectron2Config:
    """What a person chooses; everything else stands in detectron2's configuration, so there is no profile.

    ``d2_config``: a detectron2 YAML file, or ``model_zoo:NAME.yaml`` for one that detectron2 brings along. ``weights``:
    a .pkl, .pth or safetensors file under detectron2's names. ``boxes`` (``36``, or ``10..100``, of which the upper
    number is detectron2's limit) and ``score_threshold`` win over the configuration.
    """

    d2_config: str = DEFAULT_CONFIG
    weights: str = ""
    boxes: str | int | None = None
    score_threshold: float | None = None
    dtype: str = "float16"
    device: str = "cpu"
    expect_sha256: str | None = None


class Limits(NamedTuple):
    """How many boxes are wanted, at least and at most; rows of every record where that is one number, else None."""

    least: int
    most: int
    rows: int | None


def limits(cfg: Any, boxes: str | int | None) -> Limits:
    """The wish ``36`` or ``10..100``, or the configuration's own limit. Raises UsageError for another wish."""
    # Any profile will do: its grammar of --boxes is what is wanted.
    asked = get_profile("detectron2-c4").with_boxes(f"1..{cfg.TEST.DETECTIONS_PER_IMAGE}" if boxes is None else boxes)
    return Limits(asked.min_boxes, asked.max_boxes, asked.rows)


def read_config(options: Detectron2Config) -> Any:
    """detectron2's configuration with the options applied; device and weights are left empty.

    Only plain YAML is read: detectron2 by itself constructs whatever Python object a file asks for. Raises UsageError.
    """
    import detectron2
    from detectron2.config import get_cfg

    cfg, zoo = get_cfg(), Path(detectron2.__file__).parent / "model_zoo/configs"
    where = options.d2_config
    path = str(zoo / where.removeprefix(ZOO)) if where.startswith(ZOO) else where
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except Exception as error:  # AssertionError, KeyError, yaml.YAMLError ...: whatever it trips over
        raise UsageError(f"{path} is no plain detectron2 configuration: {error}", "give a YAML as d2_config") from None
    for name, allowed in _C4.items():
        found = reduce(getattr, name.split("."), cfg)
        if found not in allowed:
            message = f"{path} has {name} {found!r}, expected {' or '.join(allowed)}: only C4 networks are supported"
            raise UsageError(message, f"choose a C4 configuration, such as {DEFAULT_CONFIG}")
    cfg.TEST.DETECTIONS_PER_IMAGE = limits(cfg, options.boxes).most
    if options.score_threshold is not None:
        if not isinstance(options.score_threshold, int | float):
            raise UsageError(f"score_threshold is {options.score_threshold!r}", "give a number between 0 and 1")
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(options.score_threshold)
    cfg.MODEL.MASK_ON = False  # the mask head adds nothing to features or boxes
    cfg.MODEL.DEVICE = cfg.MODEL.WEIGHTS = ""
    return cfg


def load_into(model: Any, location: str, expect_sha256: str | None = None) -> dict[str, str]:
    """Fill ``model`` from a weights file of which nothing is executed; returns the file's name and sha256.

    Raises WeightsError unless names, shapes and stored anchors (which detectron2 leaves unread) are the network's.
    """
    if not location:
        raise WeightsError("the extractor detectron2 has no weights", "give --weights FILE (.pkl, .pth, .safetensors)")
    path = locate(location).path
    kind, digest = container(path), file_sha256(path)
    check_sha256(path, digest, expect_sha256)
    if kind not in _READERS:
        raise WeightsError(f"{path} is a Caffe model, which detectron2 does not read", "use --extractor frcnn")
    arrays, _ = as_float32(_READERS[kind](path), str(path))
    anchors = next(iter(model.proposal_generator.anchor_generator.cell_anchors)).cpu().numpy()
    arrays.setdefault(CELL_ANCHORS, anchors)
    wanted = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    wanted[CELL_ANCHORS] = anchors
    for name in sorted(arrays.keys() | wanted.keys()):
        found, expected = (list(side[name].shape) if name in side else "absent" for side in (arrays, wanted))
        if found != expected:
            message = f"{path} does not fit the configuration: {name} is {found}, expected {expected}"
            raise WeightsError(message, "give the weights that were trained with this configuration")
    if not np.allclose(arrays.pop(CELL_ANCHORS), anchors, rtol=0, atol=1e-3):
        raise WeightsError(f"{path} stores other anchors than the configuration's", "correct MODEL.ANCHOR_GENERATOR")
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)
    return {"source": path.name, "sha256": digest}
