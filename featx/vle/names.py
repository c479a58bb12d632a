"""Names of parameters as published and as ours: all under ``vle.``, heads beside it, nothing that is only a count."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from featx.checkpoint.tower import tower_hash, tower_of, without_tower
from featx.errors import WeightsError
from featx.vle.heads import HEADS, MLM

POST = "vle.vision_model.vision_model.post_layernorm."
TIED = {f"{MLM}.1.predictions.decoder.bias": f"{MLM}.1.predictions.bias"}  # saved twice by the original
_MARK = "text_projection_layer.weight"
# What files hold and no network reads: a count that some versions of transformers save, and a table of words that the
# original replaces by the word embeddings as soon as it has loaded it, whatever it holds.
_UNREAD = ("embeddings.position_ids", f"{MLM}.1.predictions.decoder.weight")


def own_names(tensors: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """The tensors of a file as ours are called, the vision tower among them.

    ``vle.`` may be there or not, behind ``model.`` or ``module.model.`` of a trainer. Raises WeightsError for others.
    """
    marks = [name for name in tensors if name.endswith(_MARK)]
    if len(marks) != 1:
        raise WeightsError(
            f"{where} is no VLE: it has {len(marks)} tensors that end in {_MARK}", "give weights of that model"
        )
    trunk = marks[0].removesuffix(_MARK)
    outer = trunk.removesuffix("vle.")
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(_UNREAD):
            continue
        plain = name.removeprefix(outer)
        bare = trunk == outer and plain.split(".")[0] not in HEADS
        found[f"vle.{plain}" if bare else plain] = tensor
    return found


def parted(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str | None]:
    """(what the network holds, hash of the vision tower if there is one).

    The tower's last layer norm belongs to both: the network goes on training it, and the hash tells the tower by it.
    """
    tower = tower_of(tensors)
    left = without_tower(tensors)
    left |= {f"{POST}{end}": tower[f"post_layernorm.{end}"] for end in ("weight", "bias") if tower}
    return left, tower_hash(tower) if tower else None


def heads_in(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The heads that these tensors are of."""
    first = {name.split(".")[0] for name in tensors}
    return [name for name in HEADS if name in first]
