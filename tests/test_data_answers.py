"""The space of answers: order, targets, files, and the change from one list to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.data import AnswerSpace, Question, convert_answer
from featx.errors import UsageError
from featx.metrics import normalise_answer


def question(number: int, scores: dict[str, float] | None, *answers: str, answer: str = "") -> Question:
    return Question(number, "key", "what?", scores, answers, answer=answer)


def test_answers_that_enough_questions_settled_on_are_kept_in_order_of_frequency() -> None:
    questions = [question(i, {"red": 1.0}, "red", "Red.", answer="Red.") for i in range(3)]
    questions += [question(10 + i, {"blue": 0.9, "navy": 1.0}) for i in range(4)]  # no settled answer: the best scored
    questions += [question(20 + i, {"2": 1.0}, "two", "2", answer="two") for i in range(3)]
    questions += [question(30, {"rare": 1.0}), question(31, None)]
    assert AnswerSpace.from_questions(questions, least=3).answers == ("navy", "2", "red")
    assert AnswerSpace.from_questions(questions[::-1], least=3).answers == ("navy", "2", "red")
    assert len(AnswerSpace.from_questions(questions, least=1)) == 4
    with pytest.raises(UsageError, match="no answer occurs 9 times"):
        AnswerSpace.from_questions(questions)


def test_an_answer_of_the_only_annotator_counts_as_written() -> None:
    """GQA's answers are classes as they are: normalised, ``t-shirt`` would be another one."""
    assert AnswerSpace.from_questions([question(1, {"t-shirt": 1.0}, "t-shirt", answer="t-shirt")], 1)[0] == "t-shirt"


def test_targets_hold_the_soft_scores_of_known_answers() -> None:
    space = AnswerSpace(["yes", "no", "red"])
    targets = space.targets([{"no": 0.3, "yes": 1.0}, {"unheard": 1.0}, None, {"red": 0.6}])
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(
        targets, np.array([[1, 0.3, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0.6]], np.float32)
    )  # fmt: skip


def test_an_answer_has_one_index() -> None:
    space = AnswerSpace(["yes", "", "no"])
    assert [space.index(a) for a in ("yes", "", "no", "maybe")] == [0, 1, 2, None]
    assert ("no" in space, "maybe" in space, space[1], list(space)) == (True, False, "", ["yes", "", "no"])
    with pytest.raises(UsageError, match="'yes' twice"):
        AnswerSpace(["yes", "no", "yes"])
    with pytest.raises(UsageError, match="is empty"):
        AnswerSpace([])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True))
def test_a_list_written_is_the_list_read(tmp_path_factory: pytest.TempPathFactory, answers: list[str]) -> None:
    path = tmp_path_factory.mktemp("answers") / "label2ans.json"
    AnswerSpace(answers).write(path)
    assert json.loads(path.read_text(encoding="utf-8")) == answers
    assert AnswerSpace.read(path).answers == tuple(answers)


@pytest.mark.parametrize(
    "content",
    [
        ["no", "yes", "2"],
        {"answers": ["no", "yes", "2"]},
        {"yes": 1, "no": 0, "2": 2},
        {"1": "yes", "0": "no", "2": "2"},
        {"id2label": {"0": "no", "1": "yes", "2": "2"}, "hidden_size": 768, "model_type": "lxmert"},
        {"label2ans": ["no", "yes", "2"], "ans2label": {}},
        [{"ans": "no", "dsets": ["vqa"]}, {"ans": "yes", "dsets": []}, {"ans": "2", "dsets": []}],
    ],
)
def test_answers_are_read_from_every_form_in_which_they_are_published(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert AnswerSpace.read(tmp_path / "a.json").answers == ("no", "yes", "2")


@pytest.mark.parametrize("content", [{}, [], 3, "yes", [1], ["a", None], {"a": "b"}, {"0": "no", "2": "yes"}, {"a": 1}])
def test_what_is_no_list_of_answers_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UsageError):
        AnswerSpace.read(tmp_path / "a.json")


def test_the_published_lists_have_their_published_sizes(shared: Path) -> None:
    vqa = AnswerSpace.read(shared / "vocab/vqa_trainval_label2ans.json")
    assert (len(vqa), vqa[0], len(AnswerSpace.read(shared / "vocab/gqa_trainval_label2ans.json"))) == (3129, "", 1842)


def test_every_published_answer_is_in_the_form_that_questions_get(shared: Path) -> None:
    """The 3129 were normalised by the same rules, so that normalising them again changes none."""
    answers = AnswerSpace.read(shared / "vocab/vqa_trainval_label2ans.json").answers
    assert [a for a in answers if normalise_answer(a) != a] == []


def test_answers_are_converted_as_by_lxmert(shared: Path) -> None:
    rows = json.loads((shared / "fixtures/consumers/lxmert/answers/convert_ans.json").read_text())
    assert [convert_answer(row["in"]) for row in rows] == [row["out"] for row in rows]


def test_articles_go_once_and_in_their_order() -> None:
    assert [convert_answer(text) for text in ("a an the dog", "the a dog", "an a dog", "a a dog")] == [
        "dog", "a dog", "a dog", "a dog",
    ]  # fmt: skip


def test_head_surgery_finds_the_rows_that_lxmert_copied(shared: Path) -> None:
    """The transferred head tells which row of the pre-training head each answer got."""
    from safetensors.numpy import load_file

    folder = shared / "fixtures/consumers/lxmert"
    lists = json.loads((folder / "answers/transfer.json").read_text())
    rows = AnswerSpace(lists["label2ans"]).remap(AnswerSpace(lists["all_ans"]))
    old = load_file(folder / "pretrain/Epoch_LXRT.safetensors")
    (name,) = (n for n in old if n.endswith("answer_head.logit_fc.3.weight"))
    with np.load(folder / "answers/transferred_head.npz") as new:
        expected = new["logit_fc.3.weight"]
    assert rows.shape == (len(expected),)
    np.testing.assert_array_equal(np.where(rows[:, None] < 0, 0, old[name][rows]), expected)
    assert 0 < (rows < 0).sum() < len(rows)


def test_a_space_of_its_own_form_is_remapped_without_a_conversion() -> None:
    rows = AnswerSpace(["One", "grey", "new"]).remap(AnswerSpace(["grey", "One"]), convert=str)
    assert rows.tolist() == [1, 0, -1]
