"""Splits by picture: LXMERT's minival, and pictures that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featx.data import Question, read_pictures, split_by_pictures
from featx.errors import UsageError
from featx.tasks import corpus

QUESTIONS = [Question(i, f"picture {i // 3}", "what?", None) for i in range(3000)]


def test_minival_is_what_its_list_says(tmp_path: Path) -> None:
    listed = [
        {"img_id": "picture 2", "question_id": 6, "sent": "what?", "label": {}},
        {"img_id": "picture 2", "question_id": 7, "sent": "what?", "label": {}},
        {"img_id": "picture 900", "question_id": 2700, "sent": "what?", "label": {}},
    ]
    (tmp_path / "minival.json").write_text(json.dumps(listed))
    nominival, minival = split_by_pictures(QUESTIONS, read_pictures(tmp_path / "minival.json"))
    assert [q.id for q in minival] == [6, 7, 8, 2700, 2701, 2702]
    assert len(nominival) == 2994
    assert [q.id for q in nominival] == sorted(q.id for q in nominival)  # type: ignore[type-var]


def test_pictures_are_listed_in_json_or_in_lines(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('["a", "b/c"]')
    (tmp_path / "keys.txt").write_text("\ufeffa\r\n\nb/c\n")
    assert read_pictures(tmp_path / "keys.json") == read_pictures(tmp_path / "keys.txt") == {"a", "b/c"}


@pytest.mark.parametrize("content", ["{}", "[1]", '[""]', '[{"image": "a"}]', "x"])
def test_a_list_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(UsageError, match=r"keys\.json"):
        read_pictures(tmp_path / "keys.json")


def test_an_unreadable_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_bytes(b"\xff")
    for name in ("keys.txt", "absent.txt", "absent.json"):
        with pytest.raises(UsageError, match=name):
            read_pictures(tmp_path / name)


LISTED = ("COCO_val2014_000000000001", "COCO_val2014_000000000002")


def test_pictures_that_are_held_out_are_not_trained_on(tmp_path: Path) -> None:
    """Keys that are spelt otherwise would let them all in, and nobody would notice."""
    (tmp_path / "minival.txt").write_text("\n".join(LISTED))
    spec = {"questions": str(tmp_path / "q.json"), "without": str(tmp_path / "minival.txt")}
    rows = [{"image_id": i, "question": "what?", "question_id": i} for i in (1, 2, 3)]
    (tmp_path / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": rows}))
    assert [q.id for q in corpus.questions(spec, "train")] == [3]
    with pytest.raises(UsageError) as caught:
        corpus.questions({**spec, "image_name": "{image_id}"}, "train")
    assert caught.value.message == (
        "data.train.without leaves nothing out: it names 2 pictures (COCO_val2014_000000000001, "
        "COCO_val2014_000000000002), and the questions are about 3 pictures (1, 2, ...)"
    )
    assert "image_name" in caught.value.hint
