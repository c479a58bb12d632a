"""Tables of multilingual VQA."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from featx.data import AnswerSpace, Question, read_questions
from featx.errors import UsageError
from featx.metrics import score
from featx.tasks import corpus

ANSWERS = "<unk>\nno\nred\nyes\n"
TABLE = (
    "image_file\tquestion\tanswer_label\tquestion_type\tlang_id\n"
    "val2014/COCO_val2014_000000000042.jpg\tIs it red?\t3\tis it\ten\n"
    'val2014/COCO_val2014_000000000042.jpg\t"Est-ce\t""rouge"" ?"\t3\tis it\tfr\n'
    "val2014/COCO_val2014_000000000073.jpg\t¿De qué color es?\t0\twhat color is the\tes\n"
)
COMMON: dict[str, Any] = {"metric": "labels"}
QUESTIONS = [
    Question(0, "COCO_val2014_000000000042", "Is it red?", {"yes": 1.0}, (), "", "is it", "en", "yes", **COMMON),
    Question(1, "COCO_val2014_000000000042", 'Est-ce\t"rouge" ?', {"yes": 1.0}, (), "", "is it", "fr", "yes", **COMMON),
    Question(2, "COCO_val2014_000000000073", "¿De qué color es?", {"<unk>": 1.0}, (), "", "what color is the", "es",
             "<unk>", **COMMON),
]  # fmt: skip


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    (tmp_path / "answers_vqa.txt").write_text(ANSWERS)
    return str(tmp_path / "answers_vqa.txt")


def test_a_table_has_language_kind_and_class_in_every_row(tmp_path: Path, vocabulary: str) -> None:
    (tmp_path / "q.tsv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "q.tsv.gz").write_bytes(gzip.compress(TABLE.encode()))
    for name in ("q.tsv", "q.tsv.gz"):
        found = read_questions({"questions": str(tmp_path / name), "vocabulary": vocabulary})
        assert found == QUESTIONS
        assert found[0].scores is found[1].scores  # two million questions share the tables of their answers


def test_without_a_vocabulary_nobody_has_answered(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("image_file\tquestion\na/7.jpg\tIst es rot?\n")
    spec = {"questions": str(tmp_path / "q.txt"), "format": "tsv", "image_name": "p{image_id:03d}", "language": "de"}
    assert read_questions(spec) == [Question(0, "p007", "Ist es rot?", None, language="de", metric="labels")]


def test_a_vocabulary_is_a_line_for_each_answer_in_the_order_of_the_classes(vocabulary: str, tmp_path: Path) -> None:
    assert list(AnswerSpace.read(vocabulary)) == ["<unk>", "no", "red", "yes"]
    (tmp_path / "twice.txt").write_text("no\nyes\nno\n")
    with pytest.raises(UsageError, match="names 'no' twice"):
        AnswerSpace.read(tmp_path / "twice.txt")
    with pytest.raises(UsageError, match=r"nowhere\.txt cannot be read"):
        AnswerSpace.read(tmp_path / "nowhere.txt")


def test_blank_lines_end_a_vocabulary_and_are_no_answers_within_it(tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("yes\nno\n\n \n")
    assert list(AnswerSpace.read(path)) == ["yes", "no"]
    path.write_text("yes\n\nno\n")
    with pytest.raises(UsageError, match=r"answers\.txt is blank in line 2"):
        AnswerSpace.read(path)


def test_a_table_that_is_learned_from_needs_its_vocabulary(tmp_path: Path, vocabulary: str) -> None:
    (tmp_path / "q.tsv").write_text("image_file\tquestion\tanswer_label\na.jpg\tWhy?\t0\n")
    spec = {"questions": str(tmp_path / "q.tsv")}
    with pytest.raises(UsageError, match="not annotated") as caught:
        corpus.answered(corpus.questions(spec, "train"), "train")
    assert "vocabulary" in str(caught.value.hint)
    assert corpus.answered(corpus.questions({**spec, "vocabulary": vocabulary}, "train"), "train")


def test_answers_are_scored_by_equality_in_each_language(tmp_path: Path, vocabulary: str) -> None:
    (tmp_path / "q.tsv").write_text(TABLE, encoding="utf-8")
    found = read_questions({"questions": str(tmp_path / "q.tsv"), "vocabulary": vocabulary})
    figures = score("labels", found, {0: "yes", 1: "no", 2: "<unk>"})
    assert figures["overall"] == 66.67
    assert figures["per language"] == {"en": 100.0, "fr": 0.0, "es": 100.0}


@pytest.mark.parametrize("label", ["4", "-1", "1.5", "", "yes", "²"])
def test_a_class_that_is_none_is_refused_with_its_line(tmp_path: Path, vocabulary: str, label: str) -> None:
    (tmp_path / "q.tsv").write_text(f"image_file\tquestion\tanswer_label\na.jpg\tWhy?\t0\nb.jpg\tWhy?\t{label}\n")
    with pytest.raises(UsageError, match=r"q\.tsv: line 3: .*answer_label"):
        read_questions({"questions": str(tmp_path / "q.tsv"), "vocabulary": vocabulary})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"annotations": "a.json"}, r"a\.json: a table of questions has no annotations file"),
        ({"format": "vqa", "vocabulary": "v.txt"}, "has a vocabulary, and is no table"),
        ({"vocabulary": "nowhere.json"}, r"nowhere\.json cannot be read"),
    ],
)
def test_a_specification_that_mixes_layouts_is_refused(tmp_path: Path, spec: dict[str, str], message: str) -> None:
    (tmp_path / "q.tsv").write_text(TABLE, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_questions({"questions": str(tmp_path / "q.tsv"), **spec})
