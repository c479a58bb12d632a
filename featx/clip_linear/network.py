"""The layers of Deuser et al. 2022, "Less Is More: Linear Layers on CLIP Features" (arXiv 2206.05281).

Parameters have the names of the published description: ln1, dp1, fc1, ln2, dp2, fc2, fc_aux, fc_gate, act_gate, fc3,
act3. No checkpoint was ever published.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from featx.errors import WeightsError
from featx.settings import Count, Limit, PartShare, read

Gate = Literal["multiply", "log"]
Several = Annotated[int, Limit(lambda value: value >= 2, "of 2 or more")]


@dataclass(frozen=True)
class Sizes:
    """Everything that decides the form of the network.

    text, image: dimensions of the two embeddings (CLIP's, projected and not normalised). hidden: width of fc1, which
    the paper does not state; 512 in a re-implementation. answers, types: how many there are. gate: ``multiply``, as
    published, or ``log``.
    """

    text: Count
    image: Count
    answers: Count
    types: Several
    hidden: Count = 512
    dropout: PartShare = 0.5
    gate: Gate = "multiply"

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> Sizes:
        """Those in a ``config.json``. Raises WeightsError for one that does not say them."""
        known = ("text", "image", "answers", "types", "hidden", "dropout", "gate")
        if lacking := [name for name in known if name not in config]:
            raise WeightsError(f"{where}: config.json does not state {', '.join(lacking)}", "get a complete copy")
        return read(cls, "config.json", {name: config[name] for name in known})

    def to_config(self) -> dict[str, Any]:
        """As a ``config.json`` has them."""
        return {"model_type": "clip-linear", **asdict(self)}


class Scores(NamedTuple):
    """answers ``[B, C]`` and types ``[B, T]``: logits; answerable ``[B]``: a logit, act3 makes a probability of it."""

    answers: torch.Tensor
    types: torch.Tensor
    answerable: torch.Tensor


class LinearClip(nn.Module):
    """Nothing but linear layers and norms between the two embeddings and the scores."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.text + sizes.image
        self.ln1 = nn.LayerNorm(width)
        self.dp1 = nn.Dropout(sizes.dropout)
        self.fc1 = nn.Linear(width, sizes.hidden)
        self.ln2 = nn.LayerNorm(sizes.hidden)
        self.dp2 = nn.Dropout(sizes.dropout)
        self.fc2 = nn.Linear(sizes.hidden, sizes.answers)
        self.fc_aux = nn.Linear(sizes.hidden, sizes.types)
        self.fc_gate = nn.Linear(sizes.types, sizes.answers)
        self.act_gate = nn.Sigmoid()
        self.fc3 = nn.Linear(sizes.hidden, 1)
        self.act3 = nn.Sigmoid()

    def forward(self, text: torch.Tensor, image: torch.Tensor) -> Scores:
        """text ``[B, Dt]``, image ``[B, Di]`` float32: embeddings as CLIP projects them. The text comes first."""
        seen = self.fc1(self.dp1(self.ln1(torch.cat([text, image], dim=1))))
        types = self.fc_aux(seen)
        logits, gate = self.fc2(self.dp2(self.ln2(seen))), self.fc_gate(types)
        return Scores(self._gated(logits, gate), types, self.fc3(seen)[:, 0])

    def _gated(self, logits: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """The published product draws negative logits up to zero where a gate closes; ``log`` always lowers them."""
        if self.sizes.gate == "log":
            return logits + functional.logsigmoid(gate)
        gated: torch.Tensor = logits * self.act_gate(gate)
        return gated
