"""The network: transformers' MBart without its text encoder, reading a projection of vision features in its place.

Axes: B pictures, N regions (tokens of the vision tower), D features, L tokens of a caption, V vocabulary, M width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featx.checkpoint.blank import blank
from featx.checkpoint.config import read_config
from featx.checkpoint.fill import fill
from featx.checkpoint.place import Place
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of, without_tower
from featx.errors import UsageError, WeightsError
from featx.text.library import transformers

PROJECTION = "model.visual_projection.weight"
_SHARED = "model.shared.weight"
TIED = {"lm_head.weight": _SHARED, "model.decoder.embed_tokens.weight": _SHARED}
BIAS = "final_logits_bias"
_TORCH_EPS = 1e-5
# No config states it. Flax's MBart left flax's default: its stored logits are met to 1e-5 with that, to 2e-4 with
# torch's.
_EPS = {".msgpack": 1e-6}
_MADE_BY_THE_LIBRARY = {"model_type", "transformers_version", "architectures", "dtype", "torch_dtype"}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a new network; the defaults are those of mBART-large-50. dim: of the features it reads."""

    vocabulary: int
    dim: int
    hidden: int = 1024
    feedforward: int = 4096
    heads: int = 16
    layers: int = 12
    positions: int = 1024
    dropout: float = 0.1
    init_std: float = 0.02

    def config(self) -> dict[str, Any]:
        """The ``mbart_config`` of a config.json. Raises UsageError for sizes that do not fit."""
        if self.hidden % self.heads:
            raise UsageError(
                f"a network of width {self.hidden} cannot have {self.heads} heads", "the heads divide the width"
            )
        return {
            "vocab_size": self.vocabulary, "d_model": self.hidden, "decoder_layers": self.layers,
            "decoder_attention_heads": self.heads, "decoder_ffn_dim": self.feedforward,
            "activation_function": "gelu", "max_position_embeddings": self.positions, "scale_embedding": True,
            "dropout": self.dropout, "attention_dropout": 0.0, "init_std": self.init_std,
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
        }  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A network, the ``config.json`` it was made by, and the hash of the vision tower in its file, if it had one."""

    network: Any
    config: Mapping[str, Any]
    tower: str | None


def new_network(sizes: Sizes) -> tuple[Any, dict[str, Any]]:
    """A network with fresh weights, drawn from torch's global generator, and its ``config.json``."""
    stated = published_config(sizes.config(), sizes.dim)
    network = build(stated["mbart_config"], sizes.dim)
    _draw(network.model.visual_projection)
    return network, stated


def published_config(mbart: Mapping[str, Any], dim: int) -> dict[str, Any]:
    """A ``config.json`` in the published layout, of a network that reads features ``[N, dim]``."""
    return {
        "model_type": "clip-vision-mbart",
        "is_encoder_decoder": True,
        "mbart_config": dict(mbart),
        "clip_vision_config": {"model_type": "clip_vision_model", "hidden_size": dim},
    }


@torch.no_grad()
def _draw(projection: nn.Linear) -> None:
    projection.weight.normal_(0.0, projection.in_features**-0.5)
    projection.bias.zero_()


def load_network(place: Place, dropout: float | None = None) -> Loaded:
    """The network of a folder, all its tensors, in eval mode; a vision tower among them is hashed and left out.

    Names are the published ones, in flax's file and in torch's. dropout: of the embeddings and layers, as stated where
    None. Raises WeightsError.
    """
    stated = read_config(place.beside("config.json"))
    if place.weights is None or not isinstance(stated.get("mbart_config"), Mapping):
        lacks = "weights" if place.weights is None else "config.json with an mbart_config"
        raise WeightsError(
            f"the folder {place.folder} holds no {lacks}",
            "expected config.json, and model.safetensors, pytorch_model.bin or flax_model.msgpack",
        )
    found = read_tensors(place.weights)
    tower = tower_of(found)
    settings = {"layer_norm_eps": _EPS.get(place.weights.suffix, _TORCH_EPS), **stated["mbart_config"]}
    stated = {**stated, "mbart_config": settings}
    network = network_of(without_tower(found), settings, str(place.weights), dropout)
    return Loaded(network, stated, tower_hash(tower) if tower else None)


def load_decoder(place: Place, dim: int, dropout: float | None = None) -> Loaded:
    """The decoder of an mBART checkpoint, such as facebook/mbart-large-50, behind a fresh projection of D = ``dim``.

    Its text encoder, which the published model has no use for either, is left out. Raises WeightsError.
    """
    stated = read_config(place.beside("config.json"))
    if place.weights is None or stated.get("model_type") != "mbart":
        raise WeightsError(f"{place.folder} is no mBART", "give a folder with config.json and weights of one")
    found = read_tensors(place.weights)
    tensors = {name: t for name, t in found.items() if not name.startswith("model.encoder.")}
    projection = nn.Linear(dim, int(stated["d_model"]))
    _draw(projection)
    tensors |= {PROJECTION: projection.weight.detach(), "model.visual_projection.bias": projection.bias.detach()}
    tensors.setdefault(BIAS, torch.zeros(1, len(tensors[_SHARED])) if _SHARED in tensors else torch.zeros(1, 1))
    network = network_of(tensors, stated, str(place.weights), dropout)
    return Loaded(network, published_config(stated, dim), None)


def network_of(
    tensors: Mapping[str, torch.Tensor], stated: Mapping[str, Any], where: str, dropout: float | None = None
) -> Any:
    """:func:`load_network` of tensors that are read already, without a tower; ``stated``: the mbart_config."""
    if PROJECTION not in tensors:
        some = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"{where} is no CLIP-Vision-mBART: it has no {PROJECTION}, its tensors are {some}, ...",
            "give weights of that model",
        )
    settings = dict(stated) if dropout is None else {**stated, "dropout": dropout}
    with blank(where):
        network = build(settings, int(tensors[PROJECTION].shape[1]))
    fill(network, tensors, where, TIED)
    return network.eval()


def build(stated: Mapping[str, Any], dim: int) -> Any:
    """An MBartForConditionalGeneration whose ``model.encoder`` gave way to ``model.visual_projection``, D -> M.

    The bias of the logits is a parameter, as it is in the flax model that was published, and not a buffer.
    """
    library = transformers()
    known = set(library.MBartConfig().to_dict()) - _MADE_BY_THE_LIBRARY
    given = {name: value for name, value in stated.items() if name in known}
    heads = given.get("decoder_attention_heads", 16)
    config = library.MBartConfig(
        **given | {"encoder_layers": 0, "encoder_ffn_dim": 1, "encoder_attention_heads": heads}
    )
    network = library.MBartForConditionalGeneration(config)
    config.encoder_layers = config.decoder_layers  # the library asks here how many layers there are
    del network.model.encoder
    network.model.visual_projection = nn.Linear(dim, config.d_model)
    bias = network.final_logits_bias.detach().clone()
    del network.final_logits_bias
    network.final_logits_bias = nn.Parameter(bias)
    network._tied_weights_keys, network.model._tied_weights_keys = TIED, {}
    network.all_tied_weights_keys = dict(TIED)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = float(stated.get("layer_norm_eps", _TORCH_EPS))
    return network


def encoded(network: Any, features: torch.Tensor) -> torch.Tensor:
    """What the decoder looks at: ``[B, N, M]`` of features ``[B, N, D]``."""
    seen: torch.Tensor = network.model.visual_projection(features)
    return seen


def caption_logits(network: Any, seen: torch.Tensor, mask: torch.Tensor | None, ids: torch.Tensor,
                   real: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
    """Logits ``[B, L, V]`` of the token behind each of ``ids`` ``[B, L]``.

    seen: see :func:`encoded`. mask: bool or int ``[B, N]``, which of it is real. real: the same of ``ids``.
    """
    logits: torch.Tensor = network(
        encoder_outputs=(seen,), attention_mask=mask, decoder_input_ids=ids, decoder_attention_mask=real,
        use_cache=False,
    ).logits  # fmt: skip
    return logits
