"""The shipped LXMERT on scenes that its recipe never drew: it answers, and it answers because it looks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import featx
from featx.data import Question, read_questions
from featx.metrics.score import score
from featx.scenes import write_scenes

SEED = 4711  # not that of configs/lxmert_scenes.yaml
PICTURES = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    write_scenes(folder, 1, PICTURES, SEED, ["en"], workers=1)
    featx.extract(str(folder / "val"), str(folder / "val.featx"), weights="tiny", key_rule="stem")
    return folder


@pytest.fixture(scope="module")
def questions(home: Path) -> list[Question]:
    files = {kind: str(home / f"vqa/{kind}_val_en.json") for kind in ("questions", "annotations")}
    return read_questions({**files, "image_name": "scene_{image_id:012d}"})


def accuracy(home: Path, questions: list[Question], control: str | None = None) -> dict[str, float]:
    """Official VQA accuracy in percent, overall and for each family of questions."""
    ask = featx.Predictor(store=home / "val.featx")
    answers = {q.id: found[0]["answer"] for q, found in ask.split(questions, 1, control)}  # type: ignore[arg-type]
    report = score("vqa", questions, answers)
    return {"overall": report["overall"], **report["per question type"]}


def test_it_answers_what_is_asked_about_pictures_it_has_not_seen(home: Path, questions: list[Question]) -> None:
    found = accuracy(home, questions)
    assert found["overall"] >= 92
    assert found["spatial"] >= 85


@pytest.mark.parametrize("control", ["no-picture", "other-picture"])
def test_without_its_picture_it_can_only_guess(home: Path, questions: list[Question], control: str) -> None:
    assert accuracy(home, questions, control)["overall"] <= 50


def test_its_card_says_what_it_was_trained_on(home: Path) -> None:
    about = json.loads((Path(featx.__file__).parent / "lxmert/default/featx.json").read_text())
    manifest = json.loads((home / "val.featx/manifest.json").read_text())
    assert about["wants"]["weights"] == manifest["provenance"]["weights"]["sha256"]
    assert about["wants"]["profile"] == manifest["provenance"]["profile"]["hash"]
