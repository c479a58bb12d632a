"""Where training begins: fresh values, or weights of any layout, whose heads stay if they name the same things."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from featx.errors import UsageError
from featx_extractors.anchors import detectron2_anchors
from featx_extractors.profiles import Profile
from featx_extractors.training.coco import Names
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.options import ModelOptions, Sizes
from featx_extractors.weights.architecture import CELL_ANCHORS, PREDICTOR
from featx_extractors.weights.checkpoint import NORMALISED, Weights4
from featx_extractors.weights.normal import Weights


def training_deltas(profile: Profile) -> Weights4:
    """What the deltas of the region head are multiplied by in training: 1 / (.1, .1, .2, .2) (Girshick 2015), or what
    the profile states."""
    return profile.delta_weights or NORMALISED


def fresh(options: ModelOptions, profile: Profile, names: Names) -> TrainableDetector:
    """A network of the configured sizes with values drawn as ``options.seed`` says."""
    if options.frozen_norm or options.frozen_stages:
        raise UsageError(
            "model.frozen_norm and frozen_stages keep what was learnt, but nothing was: model.start is missing",
            "name the weights to start from, or leave the two out",
        )
    sizes = options.sized(len(names.objects), len(names.attributes))
    model = TrainableDetector(sizes, profile)
    initialise(model, torch.from_numpy(detectron2_anchors(options.sizes, options.ratios)), options.seed)
    return model


def started(options: ModelOptions, profile: Profile, start: Weights, names: Names) -> TrainableDetector:
    """A network with the tensors of ``start``.

    The head of the classes is kept when the names are the same (or the weights have none, and their number is the
    same), and is fresh otherwise; so is that of the attributes, which also depends on the classes. Its box deltas are
    brought to :func:`training_deltas`: Caffe folds such weights into the layer when it saves a network, and the loss of
    the plain deltas that it then gives is next to nothing.
    """
    if options.architecture != Sizes():
        raise UsageError("model.architecture and model.start are both given", "the weights have their own sizes")
    sizes = replace(start.architecture, classes=len(names.objects), attributes=len(names.attributes))
    if sizes.attributes and not sizes.embedding:  # weights without that head
        sizes = replace(sizes, embedding=256, attribute_hidden=512)
    model = TrainableDetector(sizes, profile, frozen_norm=options.frozen_norm)
    initialise(model, start.tensors[CELL_ANCHORS], options.seed)
    known, tensors = model.state_dict(), {**start.tensors, **_rescaled(start, profile)}
    kept = {n: t for n, t in tensors.items() if n in known and not n.startswith(_renewed(start, names))}
    model.load({**known, **kept})
    model.freeze(options.frozen_stages)
    return model


def initialise(model: TrainableDetector, cell: torch.Tensor, seed: int | None) -> None:
    """Fresh values: He et al. 2015 for convolutions, small ones for what predicts (Girshick 2015), and the anchors.

    They are drawn from ``seed``, or from the global generator, which ``train.seed`` has seeded.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    small = {
        "bbox_pred": 0.001,
        "cls_score": 0.01,
        "attr_score": 0.01,
        "objectness_logits": 0.01,
        "anchor_deltas": 0.01,
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            layer, leaf = name.split(".")[-2:]
            if layer == "norm":
                continue
            if leaf == "bias":
                parameter.zero_()
            elif layer == "cls_embedding":
                parameter.normal_(0, 0.1, generator=generator)
            elif layer in small:
                parameter.normal_(0, small[layer], generator=generator)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        model.cell.copy_(cell)


def _rescaled(start: Weights, profile: Profile) -> dict[str, torch.Tensor]:
    """The layer of the box deltas, so that under :func:`training_deltas` it gives the boxes that it gave before."""
    meant = profile.delta_weights or start.header.delta_weights
    factors = torch.tensor(training_deltas(profile)) / torch.tensor(meant)
    weight, bias = f"{PREDICTOR}.bbox_pred.weight", f"{PREDICTOR}.bbox_pred.bias"
    rows = factors.repeat(start.header.classes)
    return {weight: start.tensors[weight] * rows[:, None], bias: start.tensors[bias] * rows}


def _renewed(start: Weights, names: Names) -> tuple[str, ...]:
    header = start.header
    same_objects = header.classes == len(names.objects) and header.objects in (None, names.objects)
    same_attributes = header.attribute_classes == len(names.attributes)
    same_attributes = same_attributes and header.attributes in (None, names.attributes)
    head_of_attributes = tuple(f"{PREDICTOR}.{layer}." for layer in ("cls_embedding", "fc_attr", "attr_score"))
    head_of_objects = tuple(f"{PREDICTOR}.{layer}." for layer in ("cls_score", "bbox_pred"))
    return (() if same_objects else head_of_objects) + (() if same_objects and same_attributes else head_of_attributes)
