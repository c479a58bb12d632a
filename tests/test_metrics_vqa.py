"""VQA accuracy and its normalisation, by hand; every entry of the official references is in tests/test_parity.py."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.data import Question
from featx.errors import UsageError
from featx.metrics import normalise_answer, score, score_soft, score_vqa, soft_scores, vqa_accuracy
from featx.metrics.contractions import CONTRACTIONS, VIZWIZ_CONTRACTIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Red Bus.", "red bus"),  # case, article, period
        ("two", "2"),
        ("none", "0"),
        ("3.5", "3.5"),  # a period before a digit stays
        ("1.", "1"),  # the look-behind of the original has no effect
        ("dont", "don't"),
        ("well-lit", "well lit"),  # a mark between letters becomes a space
        ("well- lit", "well lit"),  # one that touches a space goes
        ("x-y, c-d", "x y c d"),  # each mark on its own
        ("1,000-2", "10002"),  # a comma in a number lets every mark go
        ("\u0661,\u0662-x", "\u0661 \u0662 x"),  # the digits of other scripts are none, in Python 2
        ("Im", "im"),  # capital keys are never met: the text is in lower case by then
        ("somebody'd", "somebodyd"),
        ("  line\nbreak\t", "line break"),
        ("." * 40 + "a b", "." * 8 + "a b"),  # 32 periods go, and "........a" is no article
    ],
)
def test_an_answer_is_normalised_as_the_challenge_does(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_the_contractions_are_those_of_the_published_table() -> None:
    """Its 120 entries without the six that never change anything, and its oddities (GT-Vision-Lab/VQA, vqaEval.py)."""
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["y'alld've"] == "y'all'd've"
    assert CONTRACTIONS["ow's'at"] == "'ow's'at"
    assert not {"lets", "shes", "im", "ive", "shed", "well", "ill", "were", "id"} & set(CONTRACTIONS)


def test_vizwiz_turned_most_apostrophes_of_the_table() -> None:
    straight = {word for word in VIZWIZ_CONTRACTIONS.values() if "'" in word}
    assert straight == {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
    assert {key for key in VIZWIZ_CONTRACTIONS if "'" in key} == {"couldn'tve", "hadn'tve"}
    assert len(VIZWIZ_CONTRACTIONS) == len(CONTRACTIONS)


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_depends_on_how_many_of_ten_agree(agreeing: int, expected: float) -> None:
    answers = ["red"] * agreeing + [f"other {n}" for n in range(10 - agreeing)]
    assert vqa_accuracy("red", answers) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=10), st.sampled_from("abcde"))
def test_accuracy_is_the_mean_over_all_ways_to_leave_one_annotator_out(answers: list[str], said: str) -> None:
    subsets = list(combinations(answers, len(answers) - 1))
    plain = sum(min(Fraction(1), Fraction(subset.count(said), 3)) for subset in subsets) / len(subsets)
    letters = {"a": "x1", "b": "x2", "c": "x3", "d": "x4", "e": "x5"}  # "a" alone is an article
    accuracy = vqa_accuracy(letters[said], [letters[answer] for answer in answers])
    assert accuracy == pytest.approx(float(plain), abs=1e-12)
    assert soft_scores(answers).get(said, 0.0) == pytest.approx(float(plain), abs=1e-12)


def test_unanimous_answers_are_compared_as_they_are() -> None:
    assert vqa_accuracy("two", ["two."] * 10) == 0
    assert vqa_accuracy("two.", ["two."] * 10) == 1
    assert vqa_accuracy("2", ["two."] * 9 + ["2"]) == 1


def test_annotators_with_the_same_number_and_answer_are_left_out_together() -> None:
    answers, said = ["red"] * 6 + ["blue"] * 4, "red"
    assert vqa_accuracy(said, answers, [1] * 10) == pytest.approx(0.4)  # the four blue ones see six, the red ones none
    assert vqa_accuracy(said, answers, range(10)) == 1


def question(number: int, answers: list[str], answer_type: str, question_type: str) -> Question:
    scores = soft_scores([normalise_answer(answer) for answer in answers])
    return Question(number, "key", "what?", scores, tuple(answers), answer_type, question_type)


def test_scores_are_reported_for_all_questions_and_for_each_kind() -> None:
    questions = [
        question(1, ["Yes"] * 7 + ["no"] * 3, "yes/no", "is the"),
        question(2, ["cat"] * 9 + ["A dog."], "other", "what"),
        question(3, ["2"] * 8 + ["two", "three"], "number", "what"),
    ]
    predictions = {1: "yes", 2: "dog", 3: "3"}  # 1, 0.3, 0.3
    report = score_vqa(questions, predictions)
    assert report["overall"] == 53.33
    assert report["per answer type"] == {"yes/no": 100.0, "other": 30.0, "number": 30.0}
    assert report["per question type"] == {"is the": 100.0, "what": 30.0}
    assert score_soft(questions, predictions) == report


def test_a_metric_refuses_questions_without_what_it_needs() -> None:
    unanswered = Question(7, "key", "what?", None)
    with pytest.raises(UsageError, match="question 7 has no answers of several annotators"):
        score("vqa", [unanswered], {7: "x"})
    with pytest.raises(UsageError, match="question 7 has no soft scores"):
        score("soft", [unanswered], {7: "x"})
    with pytest.raises(UsageError, match="no metric 'wups'"):
        score("wups", [unanswered], {7: "x"})
    with pytest.raises(UsageError, match="no question to score"):
        score("vqa", [], {})
    with pytest.raises(UsageError, match="question 1 has no prediction"):
        score("vqa", [question(1, ["a"] * 10, "", "")], {})
    with pytest.raises(UsageError, match=r"prediction for question 1 is 0\.5"):
        score("vqa", [question(1, ["a"] * 10, "", "")], {1: 0.5})
