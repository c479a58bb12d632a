"""Snapshots: the pictures and questions that drawn scenes have in the layout of VizWiz."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.cli import main
from featx.data import read_questions
from featx.scenes import write_scenes
from featx.scenes.english import ENGLISH
from featx.scenes.layout import lay_out
from featx.scenes.snapshots import Snapshot, expose, take
from tests.scenes_drawn import load
from tests.scenes_oracle import solve


@pytest.fixture(scope="module")
def shots() -> list[Snapshot]:
    return [take(lay_out(5, "train", index)) for index in range(150)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vizwiz") / "scenes"
    write_scenes(out, 4, 2, 3, ["en", "de"], vizwiz=True, workers=1)
    return out


def test_every_answer_is_what_an_independent_reader_finds_in_what_is_shown(shots: list[Snapshot]) -> None:
    """Where the question names what is not there, or the picture is spoiled, nobody can answer."""
    absent = 0
    for shot in shots:
        things = [
            {"kind": t.kind, "colour": t.colour, "pattern": t.pattern, "size": t.size, "box": t.box}
            for t in shot.scene.things
        ]
        (noun,) = shot.meaning.phrases
        named = [t for t in things if noun.kind in ("", t["kind"])]
        if shot.flaw:
            assert shot.answer == "unanswerable"
        elif shot.meaning.form in ("colour", "pattern", "kind") and not named:
            assert shot.answer == "unanswerable"
            absent += 1
        else:
            assert solve(shot.text(ENGLISH), things) == shot.answer
    assert absent > 2


def test_the_question_alone_does_not_tell_whether_it_can_be_answered(shots: list[Snapshot]) -> None:
    many = [*shots, *(take(lay_out(6, "train", index)) for index in range(250))]
    helpless = {
        form: [s.answer == "unanswerable" for s in many if s.meaning.form == form] for form in ("kind", "colour")
    }
    share = sum(s.answer == "unanswerable" for s in many) / len(many)
    assert share == pytest.approx(0.3, abs=0.07)
    for told in helpless.values():
        assert sum(told) / len(told) == pytest.approx(0.3, abs=0.12)
    yes, no = (sum(s.answer == word for s in many) for word in ("yes", "no"))
    assert 0.5 < yes / no < 2


def test_ten_people_answer_and_say_how_sure_they_are(shots: list[Snapshot]) -> None:
    for shot in shots:
        assert len(shot.said) == 10
        most, count = Counter(said.answer for said in shot.said).most_common(1)[0]
        assert most == shot.answer
        assert count >= 5
        assert {said.sure for said in shot.said} <= {"yes", "maybe", "no"}
        if shot.answer == "unanswerable":
            assert {said.answer for said in shot.said} <= {"unanswerable", "unsuitable"}


def test_spoiled_pictures_show_nothing_and_others_something(shots: list[Snapshot]) -> None:
    def sharpness(shot: Snapshot) -> float:
        grey = cv2.imdecode(np.frombuffer(expose(shot), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        fine, coarse = (cv2.GaussianBlur(grey.astype(np.float32), (0, 0), width) for width in (2, 10))
        return float((fine - coarse).std())

    for flaw in ("dark", "blurred"):
        spoiled = [shot for shot in shots if shot.flaw == flaw][:3]
        assert spoiled
        for shot in spoiled:
            clear = Snapshot(shot.scene, "", shot.meaning, shot.wording, shot.answer, shot.said)
            assert sharpness(shot) < 0.4 * sharpness(clear)
            assert expose(shot) == expose(shot)


def test_the_files_have_the_layout_of_vizwiz(folder: Path) -> None:
    names: list[str] = []
    for split, count in (("train", 4), ("val", 2)):
        rows = load(folder / f"vizwiz/{split}.json")
        assert len(rows) == count
        for row in rows:
            assert set(row) == {"image", "question", "answers", "answer_type", "answerable"}
            assert all(set(said) == {"answer", "answer_confidence"} for said in row["answers"])
            assert row["answer_type"] in ("other", "unanswerable", "yes/no", "number")
            assert row["answerable"] == (row["answer_type"] != "unanswerable")
            assert cv2.imread(str(folder / "vizwiz" / split / row["image"])) is not None
        names += [row["image"] for row in rows]
        german = load(folder / f"vizwiz/{split}_de.json")
        assert [{**row, "question": ""} for row in german] == [{**row, "question": ""} for row in rows]
        assert german != rows
        questions = read_questions({"questions": str(folder / f"vizwiz/{split}.json")})
        keys = {path.stem for path in (folder / "vizwiz" / split).glob("*.jpg")}
        assert {q.picture for q in questions} == keys
        assert all(len(q.confidences) == 10 for q in questions)
    assert len(set(names)) == 6


def test_they_are_added_to_a_folder_that_had_none_and_change_nothing_in_it(tmp_path: Path) -> None:
    def digests() -> dict[Path, str]:
        return {p: sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"}

    out = str(tmp_path / "s")
    command = ["scenes", out, "--train", "2", "--val", "1", "--languages", "en", "--workers", "1", "--quiet"]
    assert main(command) == 0
    before = digests()
    assert not (tmp_path / "s/vizwiz").exists()
    assert main([*command, "--vizwiz"]) == 0
    after = digests()
    assert {path: after[path] for path in before} == before
    added = {str(path.relative_to(tmp_path / "s")) for path in set(after) - set(before)}
    pictures = {f"vizwiz/train/VizWiz_train_{n:08d}.jpg" for n in (1, 2)} | {"vizwiz/val/VizWiz_val_00100001.jpg"}
    assert added == {"vizwiz/train.json", "vizwiz/val.json", *pictures}
    (tmp_path / "s/vizwiz/train/VizWiz_train_00000002.jpg").unlink()
    assert main(command) == 0, "without the flag, too, what is there is kept whole"
    assert digests() == after


def test_a_seed_gives_the_snapshots_that_it_always_gave(shots: list[Snapshot]) -> None:
    text = repr([(s.name, s.text(ENGLISH), s.answer, s.flaw, [said.answer for said in s.said]) for s in shots[:20]])
    assert sha256(text.encode()).hexdigest()[:32] == "cd5c71ee9051bf7550e6b67e4643ae51"
