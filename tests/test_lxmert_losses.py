"""Losses of question answering against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from featx.lxmert.losses import LOSSES, bce_soft, best_class, ce, mce

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
SCORES = torch.tensor([[0.3, 0.0, 1.0], [0.9, 0.0, 0.0]])


def test_bce_soft_is_summed_over_answers_and_averaged_over_questions() -> None:
    total = 0.0
    for logits, scores in zip(LOGITS.tolist(), SCORES.tolist(), strict=True):
        for logit, score in zip(logits, scores, strict=True):
            p = 1 / (1 + math.exp(-logit))
            total -= score * math.log(p) + (1 - score) * math.log(1 - p)
    assert bce_soft(LOGITS, SCORES).item() == pytest.approx(total / 2, rel=1e-5)


def test_ce_is_that_of_the_best_answer() -> None:
    total = 0.0
    for logits, best in zip(LOGITS.tolist(), (2, 0), strict=True):
        total += math.log(sum(map(math.exp, logits))) - logits[best]
    assert ce(LOGITS, SCORES).item() == pytest.approx(total / 2, rel=1e-5)
    assert mce(LOGITS, SCORES).item() == pytest.approx(3 * total / 2, rel=1e-5)


def test_a_question_without_an_answer_in_the_list_counts_as_zero() -> None:
    scores = SCORES.clone()
    scores[0] = 0
    assert best_class(scores).tolist() == [-100, 0]
    assert torch.equal(ce(LOGITS, scores), ce(LOGITS[1:], SCORES[1:]) / 2)


@pytest.mark.parametrize("loss", LOSSES.values())
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_parts(loss: object) -> None:
    logits, scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3).repeat(2, 1)
    scores[[0, 1, 4]] = 0  # the second part has more questions with an answer in the list than the first
    parts = [loss(logits[part], scores[part]) for part in (slice(3), slice(3, 6))]  # type: ignore[operator]
    torch.testing.assert_close(loss(logits, scores), sum(parts) / 2)  # type: ignore[operator]


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_batch_without_any_answer_gives_a_finite_loss_and_finite_gradients(loss: object) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, torch.zeros(2, 3))  # type: ignore[operator]
    value.backward()
    assert math.isfinite(value.item())
    assert bool(torch.isfinite(logits.grad).all())


def test_of_equally_good_answers_the_first_counts() -> None:
    assert best_class(torch.tensor([[0.0, 0.6, 0.6]])).tolist() == [1]
