"""Ten annotators: the truth always scores 1, some disagree, some spell in their own way."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from featx.metrics.normalise import normalise_answer
from featx.metrics.vqa import vqa_accuracy
from featx.scenes.annotators import Answer, answer_type, answers, near, spellings
from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES

WHERE = ("left", "right", "above", "below", "upper", "lower")
TRUTHS = ("yes", "no", *"01234", *COLOURS, *PATTERNS, *SIZES, *KINDS, *WHERE)


def asked(truth: str, times: int) -> list[list[Answer]]:
    rng = np.random.default_rng(5)
    return [answers(truth, rng) for _ in range(times)]


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_truth_scores_one_by_the_official_measure(truth: str) -> None:
    for said in asked(truth, 60):
        texts = [a["answer"] for a in said]
        assert vqa_accuracy(truth, texts) == 1.0
        assert sum(normalise_answer(text) == truth for text in texts) >= 7
        assert Counter(texts).most_common(1)[0][0] == truth
        assert [a["answer_id"] for a in said] == list(range(1, 11))


@pytest.mark.parametrize("truth", TRUTHS)
def test_another_spelling_is_the_truth_after_normalisation_and_not_before(truth: str) -> None:
    assert all(normalise_answer(text) == truth != text for text in spellings(truth))


@pytest.mark.parametrize("truth", TRUTHS)
def test_a_near_answer_is_a_wrong_one_even_after_normalisation(truth: str) -> None:
    assert near(truth)
    assert truth not in {normalise_answer(text) for text in near(truth)}


def test_about_four_questions_in_ten_have_somebody_who_disagrees() -> None:
    said = [a for truth in TRUTHS for a in asked(truth, 60)]
    texts = [(truth, [a["answer"] for a in one]) for truth, one in zip(np.repeat(TRUTHS, 60), said, strict=True)]
    disagreed = [sum(normalise_answer(t) != truth for t in given) for truth, given in texts]
    assert 0.3 < np.mean([n > 0 for n in disagreed]) < 0.46
    assert max(disagreed) == 3
    own = np.mean([any(normalise_answer(t) == truth != t for t in given) for truth, given in texts])
    assert 0.25 < own < 0.6, "the normaliser is needed often, not always"
    sure = Counter(a["answer_confidence"] for one in said for a in one)
    assert sure["yes"] > sure["maybe"] > sure["no"] > 0


def test_a_wrong_yes_or_no_earns_little() -> None:
    wrong = np.mean([vqa_accuracy("no", [a["answer"] for a in said]) for said in asked("yes", 2000)])
    assert 0 < wrong < 0.15


@pytest.mark.parametrize(("truth", "kind"), [("yes", "yes/no"), ("no", "yes/no"), ("3", "number"), ("cat", "other")])
def test_answer_types_are_the_three_of_vqa(truth: str, kind: str) -> None:
    assert answer_type(truth) == kind
