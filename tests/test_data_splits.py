"""Splits by picture: LXMERT's minival, and a stable fraction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featx.data import Caption, Question, read_pictures, split_by_fraction, split_by_pictures
from featx.errors import UsageError

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


def test_a_fraction_takes_about_its_share_of_pictures_whole() -> None:
    rest, held = split_by_fraction(QUESTIONS, 0.2, seed=3)
    assert {q.picture for q in rest}.isdisjoint(q.picture for q in held)
    assert len(rest) + len(held) == 3000
    assert 0.16 < len(held) / 3000 < 0.24  # 1000 pictures: three standard deviations are 0.038


def test_the_side_of_a_picture_depends_on_nothing_else() -> None:
    _, held = split_by_fraction(QUESTIONS, 0.2, seed=3)
    _, reordered = split_by_fraction(QUESTIONS[::-1][:1500], 0.2, seed=3)
    assert {q.picture for q in reordered} == {q.picture for q in held if int(q.picture.split()[1]) >= 500}
    captions = [Caption(i, f"picture {i}", "a bus") for i in range(1000)]
    assert {c.picture for c in split_by_fraction(captions, 0.2, seed=3)[1]} == {q.picture for q in held}
    _, larger = split_by_fraction(QUESTIONS, 0.4, seed=3)
    assert {q.picture for q in held} < {q.picture for q in larger}
    assert {q.picture for q in split_by_fraction(QUESTIONS, 0.2, seed=4)[1]} != {q.picture for q in held}


def test_the_split_is_the_same_on_every_machine() -> None:
    """``printf '0:picture 0' | sha256sum`` and so on: 58 96 9c 49 62 bd 78 be are the first bytes; 80 is the half."""
    entries = [Caption(i, f"picture {i}", "a bus") for i in range(8)]
    _, held = split_by_fraction(entries, 0.5)
    assert [c.id for c in held] == [0, 3, 4, 6]


def test_the_ends_of_the_range_hold_out_nothing_and_everything() -> None:
    assert split_by_fraction(QUESTIONS, 0) == (QUESTIONS, [])
    assert split_by_fraction(QUESTIONS, 1) == ([], QUESTIONS)
    for fraction in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="cannot be held out"):
            split_by_fraction(QUESTIONS, fraction)
