"""Kinds of towers: classes of transformers that share one structure, embeddings, blocks and a last layer norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from featx.errors import WeightsError


@dataclass(frozen=True)
class Family:
    """vision, whole: names of transformers' classes (and, with ``Config`` for ``Model``, of their configurations).

    cls: whether row 0 is a class token, whose last state is pooled; without one, a head pools all rows. projects:
    whether a matrix leads from the pooled vector to the space it shares with texts. mean, std: of the inputs, as
    published. square: whether the published preprocessing squashes pictures rather than cropping them. padded: whether
    texts are filled up to their greatest length, as in training.
    """

    name: str
    vision: str
    whole: str
    cls: bool = True
    projects: bool = True
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    square: bool = False
    padded: bool = False


_HALF = (0.5, 0.5, 0.5)
CLIP = Family("clip", "CLIPVisionModel", "CLIPModel")
# model_type of a vision section -> its family
FAMILIES: Mapping[str, Family] = {
    "clip_vision_model": CLIP,
    "clipseg_vision_model": CLIP,
    "siglip_vision_model": Family(
        "siglip", "SiglipVisionModel", "SiglipModel", cls=False, projects=False, mean=_HALF, std=_HALF, square=True,
        padded=True,
    ),
    "chinese_clip_vision_model": Family("chinese_clip", "ChineseCLIPVisionModel", "ChineseCLIPModel", square=True),
    "altclip_vision_model": Family("altclip", "AltCLIPVisionModel", "AltCLIPModel"),
    "metaclip_2_vision_model": Family("metaclip_2", "MetaClip2VisionModel", "MetaClip2Model"),
}  # fmt: skip
_SECTIONS = ("vision_config", "clip_vision_config")
# What decides the network; the rest of a section are settings of training, or of a library's former versions.
_SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels", "image_size",
    "patch_size", "hidden_act", "layer_norm_eps", "vision_use_head",
)  # fmt: skip
_COUNTED = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels", "vocab_size",
    "max_position_embeddings",
)  # fmt: skip


def vision_section(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of a ``config.json`` that is about a vision tower, with its ``model_type``; None where there is none.

    It is the whole of a tower's own file, ``vision_config`` in CLIP and VLE, ``clip_vision_config`` in CLIP-Vision-BERT
    and -mBART. Files of 2021 repeat what matters in ``vision_config_dict``.
    """
    if str(config.get("model_type", "")).endswith("_vision_model"):
        return dict(config)
    for name in _SECTIONS:
        if isinstance(config.get(name), Mapping):
            section = {**config[name], **(config.get(f"{name}_dict") or {})}
            section.setdefault("model_type", _type_of(config))
            return section
    return None


def _type_of(config: Mapping[str, Any]) -> str:
    whole = str(config.get("model_type", ""))
    own = f"{whole.replace('-', '_')}_vision_model"
    return own if own in FAMILIES or whole.startswith(("siglip", "xclip")) else "clip_vision_model"


def family_of(section: Mapping[str, Any], where: str) -> Family:
    """The family of a vision section. Raises WeightsError for a kind that is not read."""
    kind = str(section.get("model_type"))
    if kind in FAMILIES:
        return FAMILIES[kind]
    if kind == "siglip2_vision_model":
        raise WeightsError(
            f"{where} is a SigLIP 2 tower of the NaFlex kind, whose inputs are lists of patches; that is not read",
            "take one of the SigLIP 2 checkpoints of a fixed resolution, such as google/siglip2-base-patch16-224",
        )
    raise WeightsError(f"{where} has a vision tower of the kind {kind!r}", f"read are {', '.join(FAMILIES)}")


def sizes(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of a section that decide the network. Raises WeightsError for what is no square."""
    found = {name: section[name] for name in _SIZES if section.get(name) is not None}
    for name in ("image_size", "patch_size"):
        value = found.get(name)
        if isinstance(value, list | tuple) and len(set(value)) == 1:
            found[name] = value = value[0]
        if value is not None and (type(value) is not int or value < 1):
            raise WeightsError(f"{where} states {name} {value!r}", "expected one whole number, the side of a square")
    check_numbers(found, where)
    return found


def check_numbers(settings: Mapping[str, Any], where: str) -> None:
    """Raise WeightsError for a size that is no whole number above 0, or heads that do not divide the width."""
    for name in _COUNTED:
        value = settings.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise WeightsError(f"{where} states {name} {value!r}", "expected one whole number above 0")
    width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
    if width is not None and heads is not None and width % heads:
        raise WeightsError(f"{where} states hidden_size {width} and {heads} heads", "the heads divide the width")


def constructed(library: Any, model: str, settings: Mapping[str, Any], where: str) -> Any:
    """A model of transformers by its class and the settings of its configuration, on the device meta.

    Raises WeightsError for settings that the library refuses.
    """
    try:
        with torch.device("meta"):
            return getattr(library, model)(getattr(library, configuration(model))(**settings))
    except Exception as error:  # of transformers, huggingface_hub or torch, of any class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"the settings of {where} make no {model}: {reason}", "get an unaltered config.json"
        ) from None


def configuration(model: str) -> str:
    """Name of the configuration of a class of transformers."""
    return model.removesuffix("Model") + "Config"
