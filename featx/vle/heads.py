"""The heads of VLE under their published names. Axes: B pictures, N rows of the picture, L tokens, H width, V words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from featx.text.library import transformers

VQA, ITM, PBC, MLM = "vqa_classifier", "itm_score", "pbc_classifier", "mlm_score"
Q2A, QA2R = "vcr_q2a_logit", "vcr_qa2r_logit"


class Score(nn.Module):
    """``itm_score``: states ``[B, 2H]`` -> logits ``[B, 2]``, column 1 of a match."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(pooled)
        return logits


class Transform(nn.Module):
    """Linear, activation, LayerNorm, as DeBERTa's head of masked words begins."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = transformers().activations.ACT2FN[config.hidden_act]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.LayerNorm(self.activation(self.dense(states)))
        return out


class Words(nn.Module):
    """``mlm_score.1``: states ``[B, L, T]`` of the text's width T -> logits ``[B, L, V]`` by the word embeddings."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.predictions = nn.Module()
        self.predictions.transform = Transform(config)
        self.predictions.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        bias: Any = self.predictions.bias
        transform: Any = self.predictions.transform
        logits: torch.Tensor = transform(states) @ embeddings.T + bias
        return logits


def classifier(width: int, classes: int) -> nn.Sequential:
    """Linear, LayerNorm (epsilon 1e-5), exact GELU, Linear."""
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes))


# name -> (width of the fusion, DebertaV2Config, classes) -> head
HEADS: dict[str, Callable[[int, Any, int], nn.Module]] = {
    VQA: lambda width, _, classes: classifier(2 * width, classes),
    ITM: lambda width, _, __: Score(2 * width),
    PBC: lambda width, _, __: classifier(width, 2),
    MLM: lambda width, text, _: nn.ModuleList([nn.Linear(width, text.hidden_size), Words(text)]),
    Q2A: lambda width, _, __: classifier(2 * width, 1),
    QA2R: lambda width, _, __: classifier(2 * width, 1),
}
