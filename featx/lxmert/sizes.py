"""The sizes of a network, read from the shapes of its tensors, so that weights without a ``config.json`` load too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from featx.errors import WeightsError
from featx.text.library import transformers

_HEAD_SIZE = 64  # of every published BERT and LXMERT
_EMBEDDINGS = "lxmert.embeddings."
_VISION = "lxmert.encoder.visn_fc."

# airsplay/lxmert divides the losses of the regions by the share that is hidden; transformers rounds that to 6.67.
VISUAL_LOSS_NORMALIZER = 1 / 0.15

# What a config.json states and a LxmertConfig finds out by itself.
_NOT_OURS = {"transformers_version", "architectures", "model_type", "num_hidden_layers", "dtype", "torch_dtype"}

# field of LxmertConfig -> (tensor, axis)
_SHAPES = {
    "vocab_size": (f"{_EMBEDDINGS}word_embeddings.weight", 0),
    "hidden_size": (f"{_EMBEDDINGS}word_embeddings.weight", 1),
    "max_position_embeddings": (f"{_EMBEDDINGS}position_embeddings.weight", 0),
    "type_vocab_size": (f"{_EMBEDDINGS}token_type_embeddings.weight", 0),
    "visual_feat_dim": (f"{_VISION}visn_fc.weight", 1),
    "visual_pos_dim": (f"{_VISION}box_fc.weight", 1),
    "intermediate_size": ("lxmert.encoder.layer.0.intermediate.dense.weight", 0),
    "num_qa_labels": ("answer_head.logit_fc.3.weight", 0),
    "num_object_labels": ("obj_predict_head.decoder_dict.obj.weight", 0),
    "num_attr_labels": ("obj_predict_head.decoder_dict.attr.weight", 0),
}
_LAYERS = {"l_layers": "layer", "r_layers": "r_layers", "x_layers": "x_layers"}
_LOSSES = {"visual_obj_loss": "obj", "visual_attr_loss": "attr", "visual_feat_loss": "feat"}


def sizes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Fields of LxmertConfig that the shapes decide; ``num_attention_heads`` is not among them."""
    found: dict[str, Any] = {
        field: int(tensors[name].shape[axis]) for field, (name, axis) in _SHAPES.items() if name in tensors
    }
    for field, part in _LAYERS.items():
        numbers = [re.match(rf"lxmert\.encoder\.{part}\.(\d+)\.", name) for name in tensors]
        found[field] = 1 + max((int(m[1]) for m in numbers if m), default=-1)
    if any(name.startswith("cls.") for name in tensors):
        found["task_qa"] = "num_qa_labels" in found
        found["task_obj_predict"] = any(name.startswith("obj_predict_head.") for name in tensors)
        for field, part in _LOSSES.items():
            found[field] = f"obj_predict_head.decoder_dict.{part}.weight" in tensors
    return found


def config_of(tensors: Mapping[str, torch.Tensor], stated: Mapping[str, Any], where: str, heads: int | None) -> Any:
    """The LxmertConfig of ``tensors``: shapes, and for what shapes do not tell, ``stated`` (a ``config.json``).

    heads: attention heads; None: those stated, else one per 64 of the hidden size. Raises WeightsError when
    ``stated`` contradicts the shapes, or nobody says how many heads there are.
    """
    words, _ = _SHAPES["hidden_size"]
    if words not in tensors:
        some = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"{where} is no LXMERT: it has no {words}, its tensors are {some}, ...",
            "give weights of transformers' LXMERT or of airsplay/lxmert",
        )
    sizes = sizes_of(tensors)
    for field in _SHAPES:
        if field in sizes and field in stated and stated[field] != sizes[field]:
            raise WeightsError(
                f"{where}: its config.json says {field} {stated[field]}, its tensors say {sizes[field]}",
                "the two files are not of one model",
            )
    library, hidden = transformers(), sizes["hidden_size"]
    sizes["num_attention_heads"] = heads or stated.get("num_attention_heads") or hidden // _HEAD_SIZE
    if not sizes["num_attention_heads"] or hidden % sizes["num_attention_heads"]:
        raise WeightsError(
            f"{where} has a hidden size of {hidden} and {sizes['num_attention_heads']} heads",
            "say how many attention heads there are (heads=...), a divisor of the hidden size",
        )
    known = set(library.LxmertConfig().to_dict()) - _NOT_OURS
    published = {"visual_loss_normalizer": VISUAL_LOSS_NORMALIZER}
    return library.LxmertConfig(**published | {k: v for k, v in stated.items() if k in known} | sizes)
