"""The network: DeBERTa and CLIP's tokens, fused by co-attention, and heads; parameters have the published names.

Transformers' DebertaV2Model reads the text. The picture is the tower's ``last_hidden_state``, all of its tokens; the
network begins with the tower's last layer norm, which is trained with the rest and belongs to it, not to the tower.
Each of the co-attention layers is a BertLayer with cross-attention, one for text and one for the picture, and both
read what both streams were before the layer.

Axes: B examples, N rows of the picture (the class token first), M further rows, D features, L tokens, H width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featx.text.library import transformers
from featx.vle.heads import HEADS, ITM, MLM, PBC, VQA
from featx.vle.sizes import fusion_config, text_config

TEXT, IMAGE = 0, 1  # token types; greater ones are objects that text and picture share


@dataclass(frozen=True)
class States:
    """Behind the last layer: text ``[B, L, H]``, image ``[B, N + M, H]``; pooled ``[B, 2H]``, text and then image."""

    text: torch.Tensor
    image: torch.Tensor
    pooled: torch.Tensor


class Pooler(nn.Module):
    """``[B, L, H]`` -> ``[B, H]``: tanh of a linear layer of the first row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(states[:, 0]))


class VleModel(nn.Module):
    """What all heads have in common. ``stated``: a ``config.json`` as :func:`featx.vle.sizes.checked` gives it."""

    def __init__(self, stated: Mapping[str, Any]) -> None:
        super().__init__()
        library, vision, width = transformers(), stated["vision_config"], int(stated["hidden_size"])
        self.text_config, fusion = text_config(stated), fusion_config(stated)
        self.dim = int(vision["hidden_size"])
        norm = nn.LayerNorm(self.dim, eps=float(vision.get("layer_norm_eps", 1e-5)))
        self.vision_model = nn.ModuleDict({"vision_model": nn.ModuleDict({"post_layernorm": norm})})
        self.text_model = library.DebertaV2Model(self.text_config)
        self.text_projection_layer = nn.Linear(self.text_config.hidden_size, width)
        self.image_projection_layer = nn.Linear(self.dim, width)
        self.token_type_embeddings = nn.Embedding(int(stated["num_token_types"]), width)
        layers, layer = int(stated["num_hidden_layers"]), library.models.bert.modeling_bert.BertLayer
        self.cross_modal_image_layers = nn.ModuleList([layer(fusion) for _ in range(layers)])
        self.cross_modal_text_layers = nn.ModuleList([layer(fusion) for _ in range(layers)])
        self.cross_modal_image_pooler = Pooler(width)
        self.cross_modal_text_pooler = Pooler(width)

    @property
    def post_layernorm(self) -> nn.Module:
        """The last layer norm of the tower, which is applied to all tokens."""
        inner: Any = self.vision_model["vision_model"]
        norm: nn.Module = inner["post_layernorm"]
        return norm

    def see(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, N, D]`` -> rows of the fusion ``[B, N, H]``, without a token type."""
        rows: torch.Tensor = self.image_projection_layer(self.post_layernorm(features))
        return rows

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Tokens ``[B, L]`` and which are real -> rows of the fusion ``[B, L, H]``, without a token type."""
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows: torch.Tensor = self.text_projection_layer(states)
        return rows

    def fuse(
        self, text: torch.Tensor, image: torch.Tensor, text_mask: torch.Tensor, image_mask: torch.Tensor | None = None,
        text_types: torch.Tensor | None = None, image_types: torch.Tensor | None = None,
    ) -> States:  # fmt: skip
        """Rows ``[B, L, H]`` and ``[B, N, H]``, masks (1 or True: real) and token types int64 of both ``[B, L]`` and
        ``[B, N]``; by default every row of the picture is real, and types are 0 in the text and 1 in the picture.
        """
        if image_mask is None:
            image_mask = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        x = text + self._typed(text, text_types, TEXT)
        y = image + self._typed(image, image_types, IMAGE)
        of_text, of_image = text_mask.bool()[:, None, None, :], image_mask.bool()[:, None, None, :]
        for text_layer, image_layer in zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True):
            x, y = _layer(text_layer, x, of_text, y, of_image), _layer(image_layer, y, of_image, x, of_text)
        pooled = torch.cat([self.cross_modal_text_pooler(x), self.cross_modal_image_pooler(y)], dim=1)
        return States(x, y, pooled)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, features: torch.Tensor,
        image_mask: torch.Tensor | None = None, text_types: torch.Tensor | None = None,
        image_types: torch.Tensor | None = None, means: torch.Tensor | None = None,
    ) -> States:  # fmt: skip
        """Tokens ``[B, L]`` and features ``[B, N, D]``.

        means: weights ``[B, M, N]`` by which rows of :meth:`see` add up to M further ones, behind the others: of an
        object, the share of each of its patches. Mask and types of the picture are then those of all ``N + M`` rows.
        """
        image = self.see(features)
        if means is not None:
            image = torch.cat([image, means.to(image.dtype) @ image], dim=1)
        return self.fuse(
            self.read(input_ids, attention_mask), image, attention_mask, image_mask, text_types, image_types
        )

    def _typed(self, rows: torch.Tensor, types: torch.Tensor | None, plain: int) -> torch.Tensor:
        if types is None:
            types = torch.full((1, 1), plain, dtype=torch.int64, device=rows.device)
        found: torch.Tensor = self.token_type_embeddings(types)
        return found


class Vle(nn.Module):
    """VleModel under ``vle.``, and those heads that are named, each under its own name (see ``HEADS``).

    classes: how many answers ``vqa_classifier`` chooses from.
    """

    def __init__(self, stated: Mapping[str, Any], heads: Iterable[str] = (), classes: int = 0) -> None:
        super().__init__()
        self.vle = VleModel(stated)
        made = self.new_heads(stated, self.vle.text_config, heads, classes)
        self.heads = tuple(made)
        for name, head in made.items():
            self.add_module(name, head)

    @staticmethod
    def new_heads(stated: Mapping[str, Any], text: Any, heads: Iterable[str], classes: int = 0) -> dict[str, nn.Module]:
        """Those heads that are named, in the order of ``HEADS``. text: the DebertaV2Config."""
        named, width = set(heads), int(stated["hidden_size"])
        return {name: make(width, text, classes) for name, make in HEADS.items() if name in named}

    def forward(self, *given: torch.Tensor, **named: torch.Tensor | None) -> States:
        """See :meth:`VleModel.forward`."""
        states: States = self.vle(*given, **named)
        return states

    def answer_logits(self, states: States) -> torch.Tensor:
        """``[B, C]`` of the answers."""
        return self._of(VQA, states.pooled)

    def match_logits(self, states: States) -> torch.Tensor:
        """``[B, 2]``: column 1 of a match."""
        return self._of(ITM, states.pooled)

    def patch_logits(self, states: States) -> torch.Tensor:
        """``[B, N + M, 2]`` of all rows: column 1 says that the text is about it. The original leaves out row 0."""
        return self._of(PBC, states.image)

    def word_logits(self, states: States) -> torch.Tensor:
        """``[B, L, V]`` of the words at each place."""
        head: Any = self.get_submodule(MLM)
        down, words = head
        logits: torch.Tensor = words(down(states.text), self.vle.text_model.embeddings.word_embeddings.weight)
        return logits

    @property
    def classes(self) -> int:
        """How many answers there are; 0 without a head for them."""
        if VQA not in self.heads:
            return 0
        last: Any = self.get_submodule(f"{VQA}.3")
        return int(last.out_features)

    def _of(self, name: str, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.get_submodule(name)(states)
        return logits


def _layer(
    layer: nn.Module, own: torch.Tensor, own_mask: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
) -> torch.Tensor:
    """One stream one layer on: self-attention, cross-attention, feed-forward."""
    out: torch.Tensor = layer(
        own, attention_mask=own_mask, encoder_hidden_states=other, encoder_attention_mask=other_mask
    )
    return out
