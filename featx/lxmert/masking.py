"""What pre-training hides: word pieces and regions, at LXMERT's published rates.

Of word pieces and of regions alike 15 % are chosen; of those 80 % are blanked out, 10 % replaced by another one, and
10 % left as they are (Tan and Bansal 2019, after BERT; ``random_word`` and ``random_feat`` of airsplay/lxmert).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from featx.lxmert.losses import IGNORED

if TYPE_CHECKING:
    from featx.lxmert.tokens import Tokens

RATE = 0.15  # of all word pieces and regions
BLANK, OTHER = 0.8, 0.1  # of the chosen ones


def mask_words(
    ids: torch.Tensor, mask: torch.Tensor, tokens: Tokens, rng: np.random.Generator, rate: float = RATE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids ``[B, L]`` with some hidden, and labels ``[B, L]``: the true id where one was chosen, -100 elsewhere.

    Both ends of a text are never chosen. Another word piece is any of the vocabulary, special ones included.
    """
    inner = mask.bool()
    inner[:, 0] = False
    last = mask.sum(dim=1) - 1
    inner[torch.arange(len(ids)), last.clamp(min=0)] = False
    chosen, blank, other = _fates(inner, rng, rate)
    labels = torch.where(chosen, ids, IGNORED)
    random = torch.from_numpy(rng.integers(len(tokens), size=tuple(ids.shape)))
    hidden = torch.where(blank, tokens.mask_id, ids)
    return torch.where(other, random, hidden), labels


def mask_regions(
    features: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator, rate: float = RATE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``[B, N, D]`` with some hidden, and which regions were chosen, bool ``[B, N]``; padding never is.

    Blanked features are zeros. Another region is a random one of a random picture of the batch. Boxes stay.
    """
    chosen, blank, other = _fates(mask.bool(), rng, rate)
    counts = mask.sum(dim=1).long()
    pictures = torch.nonzero(counts)[:, 0]
    shape = tuple(mask.shape)
    if len(pictures):
        picture = pictures[torch.from_numpy(rng.integers(len(pictures), size=shape))]
        row = (torch.from_numpy(rng.random(shape)) * counts[picture]).long()
        features = torch.where(other[..., None], features[picture, row], features)
    return features.masked_fill(blank[..., None], 0.0), chosen


def _fates(candidates: torch.Tensor, rng: np.random.Generator, rate: float) -> tuple[torch.Tensor, ...]:
    """Who is chosen, who of those is blanked out, and who is replaced; bool, in the shape of ``candidates``."""
    shape = tuple(candidates.shape)
    chosen = candidates & torch.from_numpy(rng.random(shape) < rate)
    fate = torch.from_numpy(rng.random(shape))
    return chosen, chosen & (fate < BLANK), chosen & (fate >= BLANK) & (fate < BLANK + OTHER)
