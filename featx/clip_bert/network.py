"""The network: words and tokens of a picture in one sequence, BERT over both, and a head on the first word.

The layers are those of transformers' VisualBERT, which is this model but for the places of the picture's tokens: in the
published one all of them get one and the same, whose number is how many tokens the picture has. That is a slip of the
original's broadcasting, with which the published weights were trained; a network of your own may have one for each.

Axes: B examples, L word pieces, N tokens of the picture, D features, H width.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from featx.clip_bert.places import Places
from featx.errors import UsageError

Batch = Mapping[str, torch.Tensor]
WORDS = "model.embeddings.word_embeddings.weight"


class Embeddings(nn.Module):
    """Words with place and type, then the picture's tokens with theirs; one layer norm over both."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        places, types, width = config.max_position_embeddings, config.type_vocab_size, config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(places, width)
        self.token_type_embeddings = nn.Embedding(types, width)
        self.visual_projection = nn.Linear(config.visual_embedding_dim, width)
        self.visual_position_embeddings = nn.Embedding(places, width)
        self.visual_token_type_embeddings = nn.Embedding(types, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: torch.Tensor, features: torch.Tensor, visual_places: torch.Tensor) -> torch.Tensor:
        """ids ``[B, L]``, features ``[B, N, D]``, visual_places int64 ``[B, N]`` -> ``[B, L + N, H]``."""
        place = torch.arange(ids.shape[1], device=ids.device)
        words = self.word_embeddings(ids) + self.position_embeddings(place) + self.token_type_embeddings.weight[0]
        seen = self.visual_projection(features) + self.visual_position_embeddings(visual_places)
        seen = seen + self.visual_token_type_embeddings.weight[1]
        normed: torch.Tensor = self.dropout(self.LayerNorm(torch.cat([words, seen], dim=1)))
        return normed


class Trunk(nn.Module):
    """Embeddings, layers and, for a head that answers, the pooler."""

    def __init__(self, config: Any, pools: bool) -> None:
        super().__init__()
        library: Any = import_module("transformers.models.visual_bert.modeling_visual_bert")
        self.embeddings = Embeddings(config)
        self.places: Places = getattr(config, "visual_places", "count")
        self.encoder = library.VisualBertEncoder(config)
        if pools:
            self.pooler = library.VisualBertPooler(config)

    def forward(self, batch: Batch, **more: bool) -> Any:
        """transformers' output of the layers; ``more``: output_hidden_states, output_attentions.

        Raises UsageError for a picture of more tokens than the network has places.
        """
        states = self.embeddings(batch["input_ids"], batch["features"], self.visual_places(batch))
        real = torch.cat([batch["attention_mask"].bool(), batch["image_mask"].bool()], dim=1)
        least = torch.finfo(states.dtype).min
        hidden = torch.zeros(real.shape, dtype=states.dtype, device=states.device).masked_fill(~real, least)
        return self.encoder(states, hidden[:, None, None, :], **more)

    def visual_places(self, batch: Batch) -> torch.Tensor:
        """The places of the picture's tokens, int64 ``[B, N]``: those of the batch (``visual_places``), if it has such;
        else 0, 1, ... where the network has a place for each, or, for every token, how many the picture has, whatever
        it is padded to.
        """
        if "visual_places" in batch:
            return batch["visual_places"]
        mask, known = batch["image_mask"], self.embeddings.visual_position_embeddings.num_embeddings
        if mask.shape[1] >= known:
            raise UsageError(
                f"pictures have {mask.shape[1]} tokens, the network has places for {known - 1}",
                "extract a coarser grid, as the network was trained with",
            )
        if self.places == "each":
            return torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return mask.sum(dim=1, keepdim=True).expand(mask.shape)


class ClipBert(nn.Module):
    """The trunk with one head: ``answers`` classes, or, with None, masked words."""

    def __init__(self, config: Any, answers: int | None) -> None:
        super().__init__()
        self.config, self.answers = config, answers
        self.model = Trunk(config, pools=answers is not None)
        if answers is None:
            self.cls = MaskedWords(config)
        else:
            self.dropout = nn.Dropout(config.hidden_dropout_prob)
            self.classifier = nn.Linear(config.hidden_size, answers)

    @property
    def dim(self) -> int:
        """D of the features."""
        return int(self.config.visual_embedding_dim)

    def answer_logits(self, batch: Batch) -> torch.Tensor:
        """``[B, C]``."""
        logits: torch.Tensor = self.classifier(self.dropout(self.model.pooler(self.model(batch).last_hidden_state)))
        return logits

    def word_logits(self, batch: Batch, *, pictures: bool = True) -> torch.Tensor:
        """``[B, L + N, words]``: of the picture's tokens, too, as published; without ``pictures`` ``[B, L, words]``."""
        states = self.model(batch).last_hidden_state
        states = self.cls(states if pictures else states[:, : batch["input_ids"].shape[1]])
        logits: torch.Tensor = torch.nn.functional.linear(
            states, self.model.embeddings.word_embeddings.weight, self.cls.bias
        )
        return logits

    @torch.no_grad()
    def attended(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``[B, C]``, and what the answer looked at: weights ``[B, N]`` of the picture's tokens, summing to 1.

        Of each word, on the average of layers and heads; a token weighs as much as the word that looks at it most. The
        class token of the picture, which looks at everything, counts like any other row.
        """
        found = self.model(batch, output_attentions=True)
        words = batch["input_ids"].shape[1]
        each = torch.stack(found.attentions).mean(dim=(0, 2))[:, :words, words:]
        weights = (each * batch["attention_mask"][:, :, None]).amax(dim=1)
        logits = self.classifier(self.dropout(self.model.pooler(found.last_hidden_state)))
        return logits, weights / weights.sum(dim=1, keepdim=True)


class MaskedWords(nn.Module):
    """BERT's head over masked words; its decoder is the table of words."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm})
        self.predictions = nn.ModuleDict({"transform": transform})
        self.predictions.register_parameter("bias", nn.Parameter(torch.zeros(config.vocab_size)))

    @property
    def bias(self) -> torch.Tensor:
        """Of every word."""
        return self.predictions.get_parameter("bias")

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """``[B, M, H]`` -> ``[B, M, H]``, to be compared with every word."""
        transform: Any = self.predictions["transform"]
        rows: torch.Tensor = transform["LayerNorm"](nn.functional.gelu(transform["dense"](states)))
        return rows
