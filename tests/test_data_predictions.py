"""Prediction files: what is written is what a challenge takes, and is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featx.data import Question
from featx.data.predictions import format_predictions, read_predictions
from featx.errors import UsageError


def questions(*ids: int | str) -> list[Question]:
    return [Question(i, "key", "what?", None) for i in ids]


@pytest.mark.parametrize(
    ("form", "predictions", "expected"),
    [
        ("vqa", {458: "net", 1: "été"}, [{"question_id": 458, "answer": "net"}, {"question_id": 1, "answer": "été"}]),
        ("gqa", {"07": "pipe"}, [{"questionId": "07", "prediction": "pipe"}]),
        ("vizwiz", {"VizWiz_test_1.jpg": "can"}, [{"image": "VizWiz_test_1.jpg", "answer": "can"}]),
        ("answerability", {"a.jpg": 0.25}, [{"image": "a.jpg", "answerable": 0.25}]),
    ],
)  # fmt: skip
def test_each_challenge_gets_its_form(tmp_path: Path, form: str, predictions: Any, expected: list[Any]) -> None:
    path = tmp_path / "p.json"
    path.write_text(format_predictions(questions(*predictions), predictions, form), encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert read_predictions(path) == predictions


def test_predictions_are_written_in_the_order_of_the_questions(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(format_predictions(questions(3, 1, 2), {1: "a", 2: "b", 3: "c"}, "vqa"))
    assert list(read_predictions(tmp_path / "p.json")) == [3, 1, 2]


def test_every_question_is_answered_once() -> None:
    for given, sentence in (
        ({1: "a"}, "no answer to 2 of 3 questions, the first is 2"),
        ({1: "a", 2: "b", 3: "c", 9: "d", 8: "e"}, "answers to 2 that are not asked, the first is 9"),
        ({1: "a", 3: "c", 9: "d"}, "1 of 3 questions, the first is 2 and answers to 1 that are not asked"),
        ({"1": "a", 2: "b", 3: "c"}, "1 of 3 questions, the first is 1 and answers to 1 that are not asked"),
    ):
        with pytest.raises(UsageError) as caught:
            format_predictions(questions(1, 2, 3), given, "vqa")
        assert sentence in caught.value.message
        assert ("text in one file and numbers in the other" in caught.value.message) == ("1" in given)
    with pytest.raises(UsageError, match="no form 'okvqa'"):
        format_predictions(questions(1), {1: "a"}, "okvqa")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "it holds no prediction"),
        ({"a": 1}, "predictions is an object"),
        ([{"id": 1, "answer": "x"}], "predictions[0] has id, answer"),
        ([{}], "predictions[0] has no fields"),
        ([{"question_id": 1, "answer": "x"}, 4], "predictions[1] is 4"),
        ([{"question_id": 1, "answer": "x"}, {"question_id": 2}], "'answer' of predictions[1] is absent"),
        ([{"question_id": 1, "answer": "x"}, {"question_id": 1, "answer": "y"}], "predictions[1] answers 1 again"),
        ([{"question_id": 1, "answer": 5}], "'answer' of predictions[0] is 5"),
        ([{"image": "a.jpg", "answerable": 1.5}], "'answerable' of predictions[0] is 1.5"),
        ([{"image": "a.jpg", "answerable": "yes"}], "'answerable' of predictions[0] is \"yes\""),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        read_predictions(tmp_path / "p.json")
    assert sentence in str(caught.value)


def test_answers_may_be_empty_and_scores_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"question_id": 1, "answer": ""}]')
    assert read_predictions(tmp_path / "p.json") == {1: ""}
    (tmp_path / "p.json").write_text('[{"image": "a", "answer": "can", "answerable": 1}]')
    assert read_predictions(tmp_path / "p.json") == {"a": "can"}
    assert read_predictions(tmp_path / "p.json", "answerability") == {"a": 1.0}
