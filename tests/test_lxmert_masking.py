"""What pre-training hides, and how often: within three standard deviations of the published rates."""

from __future__ import annotations

import math

import numpy as np
import torch

from featx.lxmert.masking import mask_regions, mask_words
from featx.lxmert.tokens import Tokens
from tests.lxmert_toys import WORDS

TOKENS = Tokens.train([" ".join(WORDS)], 100)


def within(count: int, trials: int, rate: float) -> bool:
    """Whether a count is within three standard deviations of what it should be."""
    return abs(count - trials * rate) <= 3 * math.sqrt(trials * rate * (1 - rate))


def words(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    mask = torch.from_numpy((np.arange(20) < rng.integers(5, 21, rows)[:, None]).astype(np.int64))
    ids = torch.from_numpy(rng.integers(5, len(TOKENS), (rows, 20))) * mask
    return ids, mask


def test_15_percent_of_the_words_are_hidden_of_which_80_blanked_10_replaced_10_kept() -> None:
    ids, mask = words(6000)
    hidden, labels = mask_words(ids, mask, TOKENS, np.random.default_rng(1))
    chosen, inner = labels >= 0, int(mask.sum()) - 2 * len(ids)
    n = int(chosen.sum())
    assert within(n, inner, 0.15)
    blanked = chosen & (hidden == TOKENS.mask_id)
    kept = chosen & (hidden == ids)
    vocabulary = len(TOKENS)
    # a random piece is the mask, or the true one, once in a vocabulary
    assert within(int(blanked.sum()), n, 0.8 + 0.1 / vocabulary)
    assert within(int(kept.sum()), n, 0.1 + 0.1 / vocabulary)
    assert within(int((chosen & ~blanked & ~kept).sum()), n, 0.1 * (1 - 2 / vocabulary))


def test_labels_are_the_true_words_and_all_else_is_left_alone() -> None:
    ids, mask = words(500)
    hidden, labels = mask_words(ids, mask, TOKENS, np.random.default_rng(2))
    chosen = labels >= 0
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert set(labels[~chosen].tolist()) == {-100}


def test_ends_and_padding_are_never_hidden() -> None:
    ids, mask = words(4000)
    _, labels = mask_words(ids, mask, TOKENS, np.random.default_rng(3))
    last = mask.sum(dim=1) - 1
    assert (labels[:, 0] == -100).all()
    assert (labels[torch.arange(len(ids)), last] == -100).all()
    assert (labels[mask == 0] == -100).all()


def test_a_replaced_word_can_be_any_of_the_vocabulary() -> None:
    ids, mask = words(20000)
    hidden, labels = mask_words(ids, mask, TOKENS, np.random.default_rng(4))
    other = hidden[(labels >= 0) & (hidden != ids) & (hidden != TOKENS.mask_id)]
    assert set(other.tolist()) == set(range(len(TOKENS))) - {TOKENS.mask_id}


def pictures(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that say which region they are of, from 1."""
    rng = np.random.default_rng(5)
    mask = torch.from_numpy(np.arange(12) < rng.integers(1, 13, rows)[:, None])
    features = torch.arange(1, rows * 12 + 1, dtype=torch.float32).reshape(rows, 12, 1).expand(-1, -1, 3)
    return features * mask[..., None], mask


def test_15_percent_of_the_regions_are_hidden_of_which_80_blanked_10_replaced_10_kept() -> None:
    features, mask = pictures(8000)
    hidden, chosen = mask_regions(features, mask, np.random.default_rng(6))
    n = int(chosen.sum())
    assert within(n, int(mask.sum()), 0.15)
    blanked = chosen & (hidden == 0).all(dim=2)
    kept = chosen & (hidden == features).all(dim=2)
    assert within(int(blanked.sum()), n, 0.8)
    assert within(int(kept.sum()), n, 0.1)
    assert within(n - int(blanked.sum()) - int(kept.sum()), n, 0.1)
    assert torch.equal(hidden[~chosen], features[~chosen])


def test_padding_is_neither_hidden_nor_put_in_place_of_a_region() -> None:
    features, mask = pictures(4000)
    hidden, chosen = mask_regions(features, mask, np.random.default_rng(7))
    assert not (chosen & ~mask).any()
    replaced = chosen & (hidden != features).all(dim=2) & (hidden != 0).all(dim=2)
    real = set(features[mask][:, 0].tolist())
    assert replaced.any()
    assert set(hidden[replaced][:, 0].tolist()) <= real


def test_another_region_is_of_any_picture_of_the_batch() -> None:
    features, mask = pictures(4)
    seen: set[float] = set()
    for seed in range(400):
        hidden, chosen = mask_regions(features, mask, np.random.default_rng(seed))
        seen |= set(hidden[chosen][:, 0].tolist())
    assert seen - {0.0} == set(features[mask][:, 0].tolist())


def test_pictures_without_regions_and_batches_of_one_are_fine() -> None:
    rng = np.random.default_rng(8)
    hidden, chosen = mask_regions(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool), rng)
    assert not chosen.any()
    assert not hidden.any()
    features, mask = pictures(1)
    assert mask_regions(features, mask, rng)[0].shape == features.shape


def test_the_same_chance_hides_the_same() -> None:
    ids, mask = words(50)
    a, b = (mask_words(ids, mask, TOKENS, np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[0], mask_words(ids, mask, TOKENS, np.random.default_rng(10))[0])
