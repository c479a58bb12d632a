"""A tower from a folder, a file, a hub id or a seed: sizes from ``config.json``, and every tensor of it used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.place import Place, locate
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of
from featx.errors import WeightsError
from featx.text.library import transformers
from featx_extractors.towers.family import constructed, family_of, sizes, vision_section
from featx_extractors.towers.resizing import published
from featx_extractors.towers.seeded import seeded_location, seeded_tensors
from featx_extractors.towers.tower import Origin, Tower

_PROJECTIONS = ("visual_projection.weight",)
_PREPROCESSOR = "preprocessor_config.json"


def load_tower(location: str | Path) -> Tower:
    """The vision tower of a location, on the CPU in float32.

    A checkpoint of CLIP or its friends, a tower alone, or a model that reads one (VLE, CLIP-Vision-BERT, ...): see
    :mod:`featx.checkpoint.tower`. ``seeded-clip-tiny`` is an untrained one. Raises WeightsError, MissingDependency.
    """
    seed = seeded_location(str(location))
    if seed is not None:
        config, tensors = seeded_tensors(seed)
        return build(config, tensors, {}, str(location), trained=False)
    place = locate(location)
    config, tensors = read_checkpoint(place, str(location))
    return build(config, tensors, read_config(place.beside(_PREPROCESSOR)), place.hub_id or str(place.weights))


def read_checkpoint(place: Place, where: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """``config.json`` and all tensors of a place. Raises WeightsError when either is absent."""
    if place.weights is None:
        raise WeightsError(
            f"there are no weights in {where}",
            "give a folder with model.safetensors, pytorch_model.bin or flax_model.msgpack",
        )
    config = read_config(place.beside("config.json"))
    if vision_section(config) is None:
        raise WeightsError(
            f"{place.folder} has no config.json with the sizes of a vision tower",
            "keep the config.json of the checkpoint beside its weights (vision_config, clip_vision_config)",
        )
    tensors = read_tensors(place.weights)
    if str(config.get("model_type")).startswith("altclip"):  # its files say layer, of the text tower or of both
        tensors = {name.replace("encoder.layer.", "encoder.layers."): tensor for name, tensor in tensors.items()}
    return config, tensors


def build(
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    preprocessor: Mapping[str, Any],
    source: str,
    *,
    trained: bool = True,
) -> Tower:
    """The tower within the tensors of a checkpoint. Raises WeightsError for one that is not there or does not fit."""
    section = vision_section(config) or {}
    family, found = family_of(section, source), tower_of(tensors)
    if not found:
        raise WeightsError(f"there is no vision tower in {source}", "give a checkpoint of CLIP, or of a model with one")
    library, settings = transformers(), sizes(section, source)
    network = constructed(library, family.vision, settings, source)
    fill(network, found, source)
    count_positions(network)
    projection = next((tensors[name] for name in _PROJECTIONS if name in tensors), None)
    stated = published(_image_settings(preprocessor), family, int(network.config.image_size), source)
    notes = () if preprocessor or not trained else (_unstated(source, family.name),)
    digest = None if projection is None else tensor_hash(projection)
    origin = Origin(source, tower_hash(found), trained, digest, notes)
    return Tower(family, network.eval(), projection, stated, origin, {**settings, "model_type": section["model_type"]})


def count_positions(network: torch.nn.Module) -> None:
    """Give counts that no checkpoint holds, and that are therefore still on the device meta, their values."""
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                count = torch.arange(buffer.shape[-1]) if name == "position_ids" else torch.zeros(buffer.shape[-1])
                setattr(module, name, count.to(buffer.dtype).expand(buffer.shape).clone())


def tensor_hash(tensor: torch.Tensor) -> str:
    """sha256 (hex) of the float32 values."""
    return hashlib.sha256(tensor.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def _image_settings(preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = preprocessor.get("image_processor")
    return inner if isinstance(inner, Mapping) else preprocessor


def _unstated(source: str, family: str) -> str:
    return f"{source} has no {_PREPROCESSOR} beside it: pictures are prepared as {family} models are published"
