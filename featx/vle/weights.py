"""Networks with weights: of a checkpoint, or fresh ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featx.checkpoint.blank import blank
from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.fresh import draw
from featx.checkpoint.place import Place
from featx.checkpoint.rows import with_rows
from featx.checkpoint.tensors import read_tensors
from featx.errors import WeightsError
from featx.vle.heads import VQA
from featx.vle.names import TIED, heads_in, own_names, parted
from featx.vle.network import Vle
from featx.vle.sizes import Sizes, checked, with_dropout


@dataclass(frozen=True)
class Loaded:
    """A network, the ``config.json`` it was made by, and the hash of the vision tower in its file, if it had one."""

    network: Vle
    config: Mapping[str, Any]
    tower: str | None


def load_network(place: Place, dropout: float | None = None) -> Loaded:
    """The network of a folder with all its tensors and heads, in eval mode; a vision tower is hashed and left out.

    dropout: of text and fusion, as stated where None. Raises WeightsError.
    """
    if place.weights is None:
        raise WeightsError(f"the folder {place.folder} holds no weights", "expected model.safetensors and config.json")
    stated = checked(read_config(place.beside("config.json")), str(place.folder))
    found, tower = parted(own_names(read_tensors(place.weights), str(place.weights)))
    network = network_of(found, with_dropout(stated, dropout), str(place.weights))
    return Loaded(network, stated, tower)


def network_of(tensors: Mapping[str, torch.Tensor], stated: Mapping[str, Any], where: str) -> Vle:
    """:func:`load_network` of tensors under our names, without a tower."""
    last = tensors.get(f"{VQA}.3.weight")
    with blank(where):
        network = Vle(stated, heads_in(tensors), 0 if last is None else len(last))
    fill(network, tensors, where, TIED)
    embeddings = network.vle.text_model.embeddings  # a buffer that no file holds
    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[1])[None]
    return network.eval()


def new_network(sizes: Sizes, heads: Iterable[str], classes: int = 0) -> tuple[Vle, dict[str, Any]]:
    """A network with fresh weights, drawn from torch's global generator, and its ``config.json``."""
    stated = sizes.config()
    network = Vle(stated, heads, classes)
    draw(network, sizes.init_std)
    return network, stated


def give_heads(network: Vle, stated: Mapping[str, Any], heads: Iterable[str], classes: int = 0) -> list[str]:
    """Leave a network these heads and no others; returns those that begin anew.

    A head that is there already is kept, that of answers only with as many classes.
    """
    wanted, anew = Vle.new_heads(stated, network.vle.text_config, heads, classes), []
    for name in network.heads:
        if name not in wanted:
            delattr(network, name)
    for name, head in wanted.items():
        if _shapes(getattr(network, name, None)) != _shapes(head):
            draw(head, spread(stated))
            network.add_module(name, head)
            anew.append(name)
    network.heads = tuple(wanted)
    return anew


def give_answers(network: Vle, rows: Sequence[int]) -> None:
    """Let the network choose from other answers: ``rows[i]`` is what answer i was before; -1: a new one, of zeros."""
    head: Any = network.get_submodule(VQA)
    head[3] = with_rows(head[3], rows)


@torch.no_grad()
def give_types(network: Vle, types: int, std: float) -> bool:
    """Give the network ``types`` token types, new ones behind those it has; whether it had fewer. It keeps more."""
    old = network.vle.token_type_embeddings
    if types <= old.num_embeddings:
        return False
    made = nn.Embedding(types, old.embedding_dim, device=old.weight.device)
    draw(made, std)
    made.weight[: old.num_embeddings] = old.weight
    network.vle.token_type_embeddings = made
    return True


def spread(stated: Mapping[str, Any]) -> float:
    """The standard deviation of fresh weights of a network with that ``config.json``."""
    return float(stated.get("initializer_range", 0.02))


def _shapes(head: nn.Module | None) -> Any:
    return None if head is None else {name: tensor.shape for name, tensor in head.state_dict().items()}
