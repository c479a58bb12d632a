"""The vision tower within a checkpoint, and the hash by which a store and a model know that they mean the same one.

A tower hangs wherever a patch embedding does: ``vision_model.`` in CLIP, ``vle.vision_model.vision_model.`` in VLE,
``model.embeddings.clip_vision_module.vision_model.`` in CLIP-Vision-BERT. Below that, names are those of transformers'
``CLIPVisionModel``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from featx.errors import WeightsError

_PATCHES = "embeddings.patch_embedding.weight"
_COUNTS = ("embeddings.position_ids",)  # saved by some versions of transformers; a count, not a weight


def tower_prefix(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """What the names of the vision tower begin with, None where there is none. Raises WeightsError for two towers."""
    found = sorted(name.removesuffix(_PATCHES) for name in tensors if name.endswith(_PATCHES))
    if len(found) > 1:
        raise WeightsError(
            f"there are {len(found)} vision towers, below {', '.join(map(repr, found))}", "give a checkpoint with one"
        )
    return found[0] if found else None


def tower_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the vision tower under the names of CLIPVisionModel; empty where there is none."""
    prefix = tower_prefix(tensors)
    if prefix is None:
        return {}
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return {name: t for name, t in found.items() if name not in _COUNTS}


def without_tower(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is left when the vision tower is taken out."""
    prefix = tower_prefix(tensors)
    return {name: t for name, t in tensors.items() if prefix is None or not name.startswith(prefix)}


def tower_hash(tower: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) of names, shapes and float32 values, in the order of the names.

    It depends neither on the file nor on the checkpoint that the tower was taken out of, so features can be compared
    with what a model was trained on: a store keeps it as ``weights.sha256``.
    """
    digest = hashlib.sha256()
    for name in sorted(tower):
        values = tower[name].detach().to("cpu", torch.float32)
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.reshape(-1).contiguous().numpy().data)
    return digest.hexdigest()
