"""Networks with weights: of a checkpoint, or fresh ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from featx.checkpoint.blank import blank
from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.fresh import draw
from featx.checkpoint.place import Place
from featx.checkpoint.rows import with_rows
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of, without_tower
from featx.clip_bert.network import WORDS, ClipBert
from featx.clip_bert.sizes import Sizes, bert_config
from featx.errors import WeightsError

_CLASSES = "classifier.weight"
_COUNTS = "position_ids"  # saved by some versions of transformers; a count, not a weight
_DECODER = "cls.predictions.decoder.weight"


@dataclass(frozen=True)
class Loaded:
    """A network, the ``config.json`` it was made by, and the hash of the vision tower in its file, if it had one."""

    network: ClipBert
    config: Mapping[str, Any]
    tower: str | None


def load_network(place: Place, dropout: float | None = None) -> Loaded:
    """The network of a folder with all its tensors, in eval mode; a vision tower among them is hashed and left out.

    Names are the published ones, in flax's file and in torch's. dropout: as stated where None. Raises WeightsError.
    """
    if place.weights is None:
        raise WeightsError(
            f"the folder {place.folder} holds no weights",
            "expected config.json, and model.safetensors, pytorch_model.bin or flax_model.msgpack",
        )
    stated, where = read_config(place.beside("config.json")), str(place.weights)
    found = {name: t for name, t in read_tensors(place.weights).items() if not name.endswith(_COUNTS)}
    tower = tower_of(found)
    network = network_of(without_tower(found), stated, where, dropout)
    return Loaded(network, stated, tower_hash(tower) if tower else None)


def network_of(
    tensors: Mapping[str, torch.Tensor], stated: Mapping[str, Any], where: str, dropout: float | None = None
) -> ClipBert:
    """:func:`load_network` of tensors that are read already, without a tower; ``stated``: the ``config.json``."""
    if WORDS not in tensors:
        some = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"{where} is no CLIP-Vision-BERT: it has no {WORDS}, its tensors are {some}, ...",
            "give weights of that model",
        )
    classes = tensors.get(_CLASSES)
    with blank(where):
        config = bert_config(stated, where, dropout)
        network = ClipBert(config, None if classes is None else len(classes))
    fill(network, tensors, where, {_DECODER: WORDS})
    return network.eval()


def new_network(sizes: Sizes, answers: int | None) -> tuple[ClipBert, dict[str, Any]]:
    """A network with fresh weights, drawn from torch's global generator, and its ``config.json``."""
    stated = sizes.config()
    network = ClipBert(bert_config(stated, "the configuration"), answers)
    draw(network, sizes.init_std)
    return network, stated


def give_answers(network: ClipBert, rows: Sequence[int]) -> None:
    """Let the network choose from other answers: ``rows[i]`` is what answer i was before; -1: a new one, of zeros."""
    network.classifier, network.answers = with_rows(network.classifier, rows), len(rows)


def with_answers(network: ClipBert, answers: int) -> ClipBert:
    """A network for so many answers on the trunk of another; the classifier begins anew, and a pooler it lacks."""
    std = float(network.config.initializer_range)
    made = ClipBert(network.config, answers)
    draw(made, std)
    pooler = getattr(network.model, "pooler", None)
    made.model.embeddings, made.model.encoder = network.model.embeddings, network.model.encoder
    if pooler is not None:
        made.model.pooler = pooler
    return made.eval()
