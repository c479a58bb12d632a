"""What a network is made by: the ``config.json`` of published checkpoints, or sizes for a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featx.errors import UsageError, WeightsError
from featx.text.library import transformers

_MADE_BY_THE_LIBRARY = {"model_type", "transformers_version", "architectures", "dtype", "torch_dtype"}
_UNDECLARED = {  # what DeBERTa reads of its configuration and the class of it does not declare
    "position_buckets", "share_att_key", "norm_rel_ebd", "embedding_size", "attention_head_size", "conv_kernel_size",
    "conv_act", "conv_groups",
}  # fmt: skip
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_DEFAULTS = {"num_token_types": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}  # as the original's VLEConfig


@dataclass(frozen=True)
class Sizes:
    """Sizes of a new network. dim: of the features it reads. layers: of the text, of the fusion in each stream.

    The defaults are those of VLE-base; there text and fusion are of one width (``hidden``). buckets: how many distances
    between words are told apart, in each direction.
    """

    vocabulary: int
    dim: int
    hidden: int = 768
    feedforward: int = 3072
    heads: int = 12
    layers: tuple[int, int] = (12, 6)
    buckets: int = 256
    positions: int = 512
    types: int = 2
    dropout: float = 0.1
    init_std: float = 0.02

    def config(self) -> dict[str, Any]:
        """A ``config.json`` in the published layout. Raises UsageError for sizes that do not fit."""
        if self.hidden % self.heads:
            raise UsageError(
                f"a network of width {self.hidden} cannot have {self.heads} heads", "the heads divide the width"
            )
        shared = {
            "hidden_size": self.hidden, "num_attention_heads": self.heads, "intermediate_size": self.feedforward,
            "hidden_act": "gelu", "initializer_range": self.init_std, **dict.fromkeys(_DROPOUTS, self.dropout),
        }  # fmt: skip
        text = {
            **shared, "model_type": "deberta-v2", "vocab_size": self.vocabulary, "num_hidden_layers": self.layers[0],
            "relative_attention": True, "position_buckets": self.buckets, "max_relative_positions": -1,
            "max_position_embeddings": self.positions, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "position_biased_input": False, "type_vocab_size": 0, "pad_token_id": 0,
            "layer_norm_eps": 1e-7,
        }  # fmt: skip
        return {
            "model_type": "vle", **shared, "num_hidden_layers": self.layers[1], "num_token_types": self.types,
            "layer_norm_eps": _DEFAULTS["layer_norm_eps"], "text_config": text,
            "vision_config": {"model_type": "clip_vision_model", "hidden_size": self.dim, "layer_norm_eps": 1e-5},
        }  # fmt: skip


def checked(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A ``config.json`` with what it leaves out. Raises WeightsError when it is not VLE's."""
    lacks = [name for name in ("text_config", "vision_config") if not isinstance(stated.get(name), Mapping)]
    lacks += [] if isinstance(stated.get("hidden_size"), int) else ["hidden_size"]
    if lacks:
        kind = stated.get("model_type")
        raise WeightsError(
            f"{where} has no config.json of VLE: {f'it is of {kind!r} and' if kind else 'it'} lacks {', '.join(lacks)}",
            "expected text_config, vision_config and the sizes of the fusion, as hfl/vle-base has them",
        )
    return {**_DEFAULTS, **stated}


def with_dropout(stated: Mapping[str, Any], dropout: float | None) -> dict[str, Any]:
    """The same configuration with another dropout in text and fusion, where one is given."""
    if dropout is None:
        return dict(stated)
    both = dict.fromkeys(_DROPOUTS, dropout)
    return {**stated, **both, "text_config": {**stated["text_config"], **both}}


def text_config(stated: Mapping[str, Any]) -> Any:
    """The DebertaV2Config of the text model."""
    library = transformers()
    return library.DebertaV2Config(**_known(library.DebertaV2Config, stated["text_config"]))


def fusion_config(stated: Mapping[str, Any]) -> Any:
    """The BertConfig of the co-attention layers: decoders in form, for their cross-attention, though not causal."""
    library = transformers()
    given = _known(library.BertConfig, stated)
    return library.BertConfig(
        **given | {"is_decoder": True, "add_cross_attention": True}, attn_implementation="sdpa"
    )  # fmt: skip


def _known(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration class itself knows; files hold the defaults of another version of the library besides."""
    names = (set(kind().to_dict()) | _UNDECLARED) - _MADE_BY_THE_LIBRARY
    return {name: value for name, value in given.items() if name in names}
