"""VizWiz, answerability, exact answers and BLEU, by hand; the references are in tests/test_parity.py."""

from __future__ import annotations

import random
import sys

import pytest

from featx.data import Question
from featx.errors import MissingDependency, UsageError
from featx.metrics import score_answerability, score_gqa, score_labels, score_vizwiz, vizwiz_accuracy
from featx.metrics.bleu import corpus_bleu, sentence_bleu
from featx.metrics.ranking import average_precision, f1


def test_vizwiz_normalises_the_prediction_and_nothing_else() -> None:
    assert vizwiz_accuracy("The Can.", ["can"] * 4 + ["bottle"] * 6) == 1
    assert vizwiz_accuracy("Can", ["Can"] * 10) == 0
    assert vizwiz_accuracy("can", ["can"] * 3 + ["bottle"] * 7) == pytest.approx(0.9)


def test_vizwiz_reports_the_simple_form_beside_its_own() -> None:
    questions = [
        Question("a.jpg", "a", "?", None, ("can",) * 2 + ("box",) * 8, "other"),
        Question("b.jpg", "b", "?", None, ("no",) * 10, "yes/no"),
    ]
    report = score_vizwiz(questions, {"a.jpg": "can", "b.jpg": "No"})
    assert report == {
        "questions": 2, "overall": 80.0, "per answer type": {"other": 60.0, "yes/no": 100.0}, "simple": 83.33,
    }  # fmt: skip


def precision_by_thresholds(positive: list[bool], scores: list[float]) -> float:
    """The definition: sum over falling thresholds of the gain in recall times the precision there."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [p for p, s in zip(positive, scores, strict=True) if s >= threshold]
        recall = sum(chosen) / sum(positive)
        total, before = total + (recall - before) * sum(chosen) / len(chosen), recall
    return total


def test_average_precision_takes_equal_scores_as_one_threshold() -> None:
    assert average_precision([True, False], [0.5, 0.5]) == 0.5
    assert average_precision([True, False, True], [0.9, 0.8, 0.7]) == pytest.approx((1 + 2 / 3) / 2)
    rng = random.Random(3)
    for _ in range(50):
        scores = [rng.choice((0.1, 0.2, 0.5, 0.9)) for _ in range(12)]
        positive = [True, *(rng.random() < 0.4 for _ in range(11))]
        assert average_precision(positive, scores) == pytest.approx(precision_by_thresholds(positive, scores))


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    assert f1([True, True, False], [True, False, True]) == pytest.approx(0.5)
    assert f1([False], [False]) == 0


def test_answerability_asks_for_the_unanswerable_ones() -> None:
    questions = [Question(i, "", "?", None, answerable=yes) for i, yes in enumerate([True, True, False, False])]
    report = score_answerability(questions, {0: 0.9, 1: 0.3, 2: 0.4, 3: 0.1})
    # unanswerable, by falling 1 - score: 3 (right), 1 (wrong), 2 (right)
    assert report["overall"] == round(100 * (1 + 2 / 3) / 2, 2)
    assert report["f1"] == 80.0  # chosen below 0.5: 1, 2, 3
    with pytest.raises(UsageError, match="at least one positive"):
        score_answerability(questions[:2], {0: 1.0, 1: 1.0})


def test_gqa_counts_only_the_same_letters() -> None:
    questions = [
        Question("1", "", "?", {}, ("t-shirt",), "object", "query", answer="t-shirt"),
        Question("2", "", "?", {}, ("yes",), "attribute", "verify", answer="yes"),
        Question("3", "", "?", {}, ("no",), "object", "verify", answer="no"),
    ]
    report = score_gqa(questions, {"1": "t-shirt", "2": "Yes", "3": "no"})
    assert report["overall"] == 66.67
    assert report["per structural type"] == {"query": 100.0, "verify": 50.0}
    assert report["per semantic type"] == {"object": 100.0, "attribute": 0.0}


def test_labels_are_counted_for_each_language() -> None:
    questions = [
        Question(i, "", "?", {}, (), "other", language=language, answer=answer)
        for i, (language, answer) in enumerate([("en", "red"), ("de", "rot"), ("de", "ja")])
    ]
    report = score_labels(questions, {0: "red", 1: "rot", 2: "nein"})
    assert report["per language"] == {"en": 100.0, "de": 50.0}


def test_bleu_counts_words_in_common() -> None:
    pytest.importorskip("sacrebleu")
    found = corpus_bleu(["a red bus stops"], [["a blue bus stops"]], order=2)
    # three of four words, one of three pairs ("bus stops"), no brevity penalty
    assert found.score == pytest.approx(100 * (3 / 4 * 1 / 3) ** 0.5)
    assert found.counts == (3, 1)
    assert found.totals == (4, 3)
    assert sentence_bleu("a red bus", ["a red bus"]).score == pytest.approx(100)


def test_bleu_wants_the_same_number_of_references_for_each_caption() -> None:
    with pytest.raises(UsageError, match="2 captions have 1 lists"):
        corpus_bleu(["a", "b"], [["a"]])
    with pytest.raises(UsageError, match=r"\[1, 2\] references"):
        corpus_bleu(["a", "b"], [["a"], ["b", "c"]])


def test_bleu_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingDependency, match="pip install sacrebleu"):
        sentence_bleu("a", ["a"])
