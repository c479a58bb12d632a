"""VizWiz: which of ten answers is learned, and of which type an answer is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featx.data import Question, read_questions
from featx.data.answer_types import TYPINGS, type_by_pattern
from featx.data.selection import Selector, distance
from featx.errors import UsageError


def asked(number: int, *answers: str, sure: str = "", kind: str = "other") -> Question:
    """A question; ``sure`` has a letter for each answer: y, m or n."""
    words = {"y": "yes", "m": "maybe", "n": "no"}
    return Question(
        f"{number}.jpg", str(number), "What is this?", {}, answers, kind, confidences=tuple(words[c] for c in sure)
    )


def test_the_most_common_of_the_ten_is_learned() -> None:
    question = asked(0, *["can"] * 4, *["soup"] * 3, *["tin"] * 3)
    assert Selector([question], "paper")(question) == "can"


def test_of_two_that_tie_the_one_that_the_training_set_has_more_often() -> None:
    tied = asked(0, *["tin"] * 5, *["can"] * 5)
    training = [tied, asked(1, *["can"] * 3, *["unanswerable"] * 7), asked(2, *["unanswerable"] * 10)]
    assert Selector(training, "paper")(tied) == "can", "not 'unanswerable', which is more frequent but does not tie"


def test_of_two_that_tie_in_both_the_one_that_is_nearest_to_the_others() -> None:
    tied = asked(0, *["soup can"] * 3, *["can"] * 3, *["cans"] * 3, "bean")
    # can: 5 to "soup can" + 1 to "cans"; cans: 6 + 1; soup can: 5 + 6
    assert Selector([tied], "paper")(tied) == "can"


@pytest.mark.parametrize(
    ("a", "b", "steps"), [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("can", "cans", 1), ("ab", "ba", 2)]
)
def test_distance_is_levenshteins(a: str, b: str, steps: int) -> None:
    assert distance(a, b) == distance(b, a) == steps


def test_only_sure_annotators_count_where_that_is_the_policy() -> None:
    question = asked(0, *["can"] * 4, *["soup"] * 3, sure="mmnyyyn")
    assert Selector([question], "confident")(question) == "soup"
    assert Selector([question], "paper")(question) == "can"


def test_where_nobody_is_sure_nothing_is_learned_and_of_equals_the_first() -> None:
    choose = Selector([], "confident")
    assert choose(asked(0, "a", "b", sure="mn")) is None
    assert choose(asked(0, "b", "a", "c", sure="yyn")) == "b"


def test_confidences_that_are_not_there_are_an_error_that_names_the_question() -> None:
    with pytest.raises(UsageError, match=r"question '7\.jpg' do not say how sure"):
        Selector([], "confident")(asked(7, "a"))


def test_the_list_has_the_most_frequent_first_then_the_alphabet() -> None:
    training = [asked(0, "b"), asked(1, "c"), asked(2, "c"), asked(3, "a")]
    choose = Selector(training, "paper")
    assert list(choose.space(training)) == ["c", "a", "b"]
    assert list(choose.space(training, least=2)) == ["c"]
    with pytest.raises(UsageError, match="no answer is chosen for 3 questions"):
        choose.space(training, least=3)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="known are paper, confident"):
        Selector([], "loud")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("unanswerable", "unanswerable"), ("unsuitable image", "unsuitable"), ("unsuitable", "unsuitable"),
        ("yes", "yes"), ("Yes.", "yes"), ("no", "no"), ("no parking", "other"), ("nothing", "other"),
        ("2", "number"), ("$3.50", "number"), ("12:30", "number"), ("50 %", "number"), ("twenty one", "number"),
        ("7up", "other"), ("red", "colour"), ("dark blue", "colour"), ("black and white", "colour"),
        ("light grey", "colour"), ("reddish brown", "colour"), ("red car", "other"), ("dark", "other"),
        ("coca cola", "other"), ("", "other"),
    ],
)  # fmt: skip
def test_patterns_sort_answers(answer: str, kind: str) -> None:
    assert type_by_pattern(answer) == kind


def test_types_are_those_of_the_data_set_or_of_the_answer_that_is_learned() -> None:
    stated, found = TYPINGS["vizwiz"], TYPINGS["patterns"]
    question = asked(0, "red", kind="yes/no")
    assert stated.names[stated.index(question, "red") or 0] == "yes/no"
    assert found.names[found.index(question, "red") or 0] == "colour"
    assert stated.index(asked(0, "red", kind="emotion"), "red") is None
    assert found.index(question, None) is None


def test_confidences_are_read_where_all_annotators_state_one(tmp_path: Path) -> None:
    def row(image: str, *said: dict[str, Any]) -> dict[str, Any]:
        return {"image": image, "question": "What is this?", "answers": list(said), "answer_type": "other"}

    sure = [{"answer": "can", "answer_confidence": c} for c in ("yes", "maybe", "no", "yes")]
    silent = [*sure[:3], {"answer": "tin"}]
    (tmp_path / "train.json").write_text(json.dumps([row("a.jpg", *sure), row("b.jpg", *silent)]))
    first, second = read_questions({"questions": str(tmp_path / "train.json")})
    assert first.confidences == ("yes", "maybe", "no", "yes")
    assert second.confidences == ()
    assert second.answers == ("can", "can", "can", "tin")
