"""``config.json`` in the published layout: ``bert_config`` and ``clip_vision_config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from featx.clip_bert.places import Places
from featx.errors import UsageError, WeightsError
from featx.text.library import transformers

NAME = "clip-vision-bert"
# What decides the network; the rest of a section is about training, or about saving.
_KNOWN = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "initializer_range", "layer_norm_eps", "pad_token_id",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Sizes of a new network; the defaults are those of bert-base-multilingual-uncased.

    dim: of the features. places: whether all tokens of a picture share one, as published, or each has its own.
    """

    vocabulary: int
    dim: int
    hidden: int = 768
    feedforward: int = 3072
    heads: int = 12
    layers: int = 12
    positions: int = 512
    dropout: float = 0.1
    init_std: float = 0.02
    places: Places = "count"

    def config(self) -> dict[str, Any]:
        """As a ``config.json``. Raises UsageError for sizes that do not fit."""
        if self.hidden % self.heads:
            raise UsageError(
                f"a network of width {self.hidden} cannot have {self.heads} heads", "the heads divide the width"
            )
        return {
            "model_type": NAME,
            "bert_config": {
                "model_type": "bert", "vocab_size": self.vocabulary, "hidden_size": self.hidden, "hidden_act": "gelu",
                "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "type_vocab_size": 2,
                "intermediate_size": self.feedforward, "max_position_embeddings": self.positions,
                "hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout,
                "initializer_range": self.init_std, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            },
            "clip_vision_config": {"model_type": "clip_vision_model", "hidden_size": self.dim},
            **({} if self.places == "count" else {"visual_places": self.places}),
        }  # fmt: skip


def bert_config(stated: Mapping[str, Any], where: str, dropout: float | None = None) -> Any:
    """transformers' VisualBertConfig of a ``config.json``; dropout: as stated where None. Raises WeightsError."""
    bert, vision = stated.get("bert_config"), stated.get("clip_vision_config")
    if not isinstance(bert, Mapping) or not isinstance(vision, Mapping) or "hidden_size" not in vision:
        raise WeightsError(
            f"{where} is no configuration of CLIP-Vision-BERT",
            "expected bert_config and clip_vision_config, as in config.json of flax-community/clip-vision-bert-*",
        )
    if stated.get("visual_places", "count") not in get_args(Places):
        raise WeightsError(
            f"{where} has visual_places {stated['visual_places']!r}", "this featx knows count (as published) and each"
        )
    known = {name: bert[name] for name in _KNOWN if name in bert}
    if dropout is not None:
        known |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return transformers().VisualBertConfig(
        **known, visual_embedding_dim=int(vision["hidden_size"]), special_visual_initialize=False,
        visual_places=stated.get("visual_places", "count"),
    )  # fmt: skip
