"""What a training run leaves behind: weights in the normal form, and a card that says where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from featx_extractors.anchors import family
from featx_extractors.profiles import Profile
from featx_extractors.training.coco import Names
from featx_extractors.weights.architecture import CELL_ANCHORS
from featx_extractors.weights.checkpoint import Weights4
from featx_extractors.weights.normal import Header, Weights, anchors_sha256, tensors_sha256

WEIGHTS, CARD = "weights.safetensors", "card.md"


def trained_weights(
    tensors: Mapping[str, torch.Tensor],
    names: Names,
    profile: Profile,
    delta_weights: Weights4,
    rpn_delta_weights: Weights4,
    notes: tuple[str, ...] = (),
) -> Weights:
    """Tensors of a trained network under a header of their own."""
    digest, cell = tensors_sha256(tensors), tensors[CELL_ANCHORS]
    header = Header(
        layout="featx",
        source=WEIGHTS,
        source_sha256=digest,
        sha256=digest,
        classes=len(names.objects),
        attribute_classes=len(names.attributes),
        delta_weights=delta_weights,
        delta_weights_from="training",
        rpn_delta_weights=rpn_delta_weights,
        anchors=family(cell.numpy()),
        anchors_sha256=anchors_sha256(cell),
        legacy_plus_one=profile.plus_one,
        profile=profile.name,
        objects=names.objects,
        attributes=names.attributes or None,
        notes=notes,
    )
    return Weights(tensors, header)


def card(weights: Weights, options: Mapping[str, Any], trained_on: Mapping[str, Any]) -> str:
    """The card of a run, Markdown: names, network, recipe, figures."""
    header, sizes = weights.header, weights.architecture
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    lines = [
        "# A detector trained by featx",
        "",
        f"ResNet-C4 Faster R-CNN with attributes, blocks {sizes.blocks}, {count:,} numbers, features of {sizes.dim}.",
        f"Profile `{header.profile}`, tensors sha256 `{header.sha256}`.",
        "",
        f"- {header.classes} objects: {', '.join(header.objects or ())}",
        f"- {header.attribute_classes} attributes: {', '.join(header.attributes or ()) or 'none'}",
        "",
        "## Recipe",
        "",
        *_json(options),
        "",
        "## Trained on, and figures",
        "",
        *_json(trained_on),
    ]
    return "\n".join(lines) + "\n"


def _json(values: Mapping[str, Any]) -> list[str]:
    return ["```json", json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, default=str), "```"]
