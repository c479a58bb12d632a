"""What pre-training hides: word pieces and regions, at LXMERT's published rates.

Of word pieces and of regions alike 15 % are chosen; of those 80 % are blanked out, 10 % replaced by another one, and
10 % left as they are (Tan and Bansal 2019, after BERT; ``random_word`` and ``random_feat`` of airsplay/lxmert).

Every example has a generator of its own, which draws as often as the example has words and regions: what is hidden of
it does not depend on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from featx.lxmert.losses import IGNORED

if TYPE_CHECKING:
    from featx.text.wordpiece import Tokens

RATE = 0.15  # of all word pieces and regions
BLANK, OTHER = 0.8, 0.1  # of the chosen ones


def mask_words(
    ids: torch.Tensor, mask: torch.Tensor, tokens: Tokens, rngs: Sequence[np.random.Generator], rate: float = RATE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids ``[B, L]`` with some hidden, and labels ``[B, L]``: the true id where one was chosen, -100 elsewhere.

    mask: 1 where there is a word piece. rngs: one for each of the B texts.
    Both ends of a text are never chosen. Another word piece is any of the vocabulary, special ones included.
    """
    inner = mask.bool()
    inner[:, 0] = False
    last = mask.sum(dim=1) - 1
    inner[torch.arange(len(ids)), last.clamp(min=0)] = False
    chosen, blank, replacement = _fates(inner, len(tokens), rngs, rate)
    labels = torch.where(chosen, ids, IGNORED)
    hidden = torch.where(blank, tokens.mask_id, ids)
    return torch.where(replacement >= 0, replacement, hidden), labels


def mask_regions(
    features: torch.Tensor,
    mask: torch.Tensor,
    others: torch.Tensor,
    rngs: Sequence[np.random.Generator],
    rate: float = RATE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``[B, N, D]`` with some hidden, and which regions were chosen, bool ``[B, N]``; padding never is.

    Blanked features are zeros; other regions are rows of ``others`` ``[P, D]``. Boxes stay. airsplay/lxmert draws a
    region of all pictures that are trained on, for which ``others`` are a sample.
    """
    chosen, blank, replacement = _fates(mask.bool(), len(others), rngs, rate)
    features = torch.where((replacement >= 0)[..., None], others[replacement.clamp(min=0)], features)
    return features.masked_fill(blank[..., None], 0.0), chosen


def _fates(
    candidates: torch.Tensor, others: int, rngs: Sequence[np.random.Generator], rate: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Who is chosen and who of those is blanked out, bool, and by which of the ``others`` the rest is replaced, int64,
    -1 where it is not; all in the shape of ``candidates``."""
    lots, fates = torch.ones(candidates.shape, dtype=torch.float64), torch.ones(candidates.shape, dtype=torch.float64)
    replacement = torch.full(candidates.shape, -1)
    for row, (own, rng) in enumerate(zip(candidates, rngs, strict=True)):
        count = int(own.sum())
        lots[row, own], fates[row, own] = torch.from_numpy(rng.random((2, count)))
        replacement[row, own] = torch.from_numpy(rng.integers(others, size=count))
    chosen = candidates & (lots < rate)
    other = chosen & (fates >= BLANK) & (fates < BLANK + OTHER)
    return chosen, chosen & (fates < BLANK), torch.where(other, replacement, -1)
