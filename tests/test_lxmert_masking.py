"""What pre-training hides, and how often: within three standard deviations of the published rates."""

from __future__ import annotations

import math

import numpy as np
import torch

from featx.lxmert.masking import mask_regions, mask_words
from featx.text.wordpiece import Tokens
from tests.lxmert_toys import WORDS

TOKENS = Tokens.train([" ".join(WORDS)], 100)


def within(count: int, trials: int, rate: float) -> bool:
    """Whether a count is within three standard deviations of what it should be."""
    return abs(count - trials * rate) <= 3 * math.sqrt(trials * rate * (1 - rate))


def chances(seed: int, count: int) -> list[np.random.Generator]:
    """A generator for each of ``count`` examples."""
    return [np.random.default_rng([seed, i]) for i in range(count)]


def words(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    mask = torch.from_numpy((np.arange(20) < rng.integers(5, 21, rows)[:, None]).astype(np.int64))
    ids = torch.from_numpy(rng.integers(5, len(TOKENS), (rows, 20))) * mask
    return ids, mask


def test_15_percent_of_the_words_are_hidden_of_which_80_blanked_10_replaced_10_kept() -> None:
    ids, mask = words(6000)
    hidden, labels = mask_words(ids, mask, TOKENS, chances(1, len(ids)))
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
    hidden, labels = mask_words(ids, mask, TOKENS, chances(2, len(ids)))
    chosen = labels >= 0
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert set(labels[~chosen].tolist()) == {-100}


def test_ends_and_padding_are_never_hidden() -> None:
    ids, mask = words(4000)
    _, labels = mask_words(ids, mask, TOKENS, chances(3, len(ids)))
    last = mask.sum(dim=1) - 1
    assert (labels[:, 0] == -100).all()
    assert (labels[torch.arange(len(ids)), last] == -100).all()
    assert (labels[mask == 0] == -100).all()


def test_a_replaced_word_can_be_any_of_the_vocabulary() -> None:
    ids, mask = words(20000)
    hidden, labels = mask_words(ids, mask, TOKENS, chances(4, len(ids)))
    other = hidden[(labels >= 0) & (hidden != ids) & (hidden != TOKENS.mask_id)]
    assert set(other.tolist()) == set(range(len(TOKENS))) - {TOKENS.mask_id}


OTHERS = -torch.arange(1.0, 41.0)[:, None].expand(-1, 3)  # regions of other pictures, told by their sign


def pictures(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that say which region they are of, from 1."""
    rng = np.random.default_rng(5)
    mask = torch.from_numpy(np.arange(12) < rng.integers(1, 13, rows)[:, None])
    features = torch.arange(1, rows * 12 + 1, dtype=torch.float32).reshape(rows, 12, 1).expand(-1, -1, 3)
    return features * mask[..., None], mask


def test_15_percent_of_the_regions_are_hidden_of_which_80_blanked_10_replaced_10_kept() -> None:
    features, mask = pictures(8000)
    hidden, chosen = mask_regions(features, mask, OTHERS, chances(6, len(mask)))
    n = int(chosen.sum())
    assert within(n, int(mask.sum()), 0.15)
    blanked = chosen & (hidden == 0).all(dim=2)
    kept = chosen & (hidden == features).all(dim=2)
    assert within(int(blanked.sum()), n, 0.8)
    assert within(int(kept.sum()), n, 0.1)
    replaced = chosen & (hidden < 0).all(dim=2)
    assert within(int(replaced.sum()), n, 0.1)
    assert int(blanked.sum()) + int(kept.sum()) + int(replaced.sum()) == n
    assert torch.equal(hidden[~chosen], features[~chosen])


def test_padding_is_never_hidden() -> None:
    features, mask = pictures(4000)
    hidden, chosen = mask_regions(features, mask, OTHERS, chances(7, len(mask)))
    assert chosen.any()
    assert not (chosen & ~mask).any()
    assert not hidden[~mask].any()


def test_another_region_is_any_of_those_given() -> None:
    features, mask = pictures(8000)
    hidden, _ = mask_regions(features, mask, OTHERS, chances(8, len(mask)))
    assert set(hidden[hidden < 0].tolist()) == set(OTHERS[:, 0].tolist())


def test_what_is_hidden_of_an_example_does_not_depend_on_the_batch_it_is_in() -> None:
    ids, mask = words(30)
    longest = int(mask[:10].sum(dim=1).max())
    some, labels = mask_words(ids, mask, TOKENS, chances(9, 30))
    few, few_labels = mask_words(ids[:10, :longest], mask[:10, :longest], TOKENS, chances(9, 30)[:10])
    assert torch.equal(some[:10, :longest], few)
    assert torch.equal(labels[:10, :longest], few_labels)
    features, real = pictures(30)
    all_of_them = mask_regions(features, real, OTHERS, chances(9, 30))
    alone = mask_regions(features[7:8], real[7:8], OTHERS, chances(9, 30)[7:8])
    for together, apart in zip(all_of_them, alone, strict=True):
        assert torch.equal(together[7:8], apart)


def test_pictures_without_regions_are_fine() -> None:
    hidden, chosen = mask_regions(torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.bool), OTHERS, chances(8, 2))
    assert not chosen.any()
    assert not hidden.any()


def test_the_same_chance_hides_the_same() -> None:
    ids, mask = words(50)
    a, b = (mask_words(ids, mask, TOKENS, chances(9, len(ids))) for _ in range(2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[0], mask_words(ids, mask, TOKENS, chances(10, len(ids)))[0])
