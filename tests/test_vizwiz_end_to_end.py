"""VizWiz from pixels and words to the file of answers, through the real extractors and real stores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from featx.cli import main
from featx.scenes import write_scenes

pytest.importorskip("transformers")
WEIGHTS = "seeded-clip-tiny"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures and questions, their stores, and a model of them."""
    home = tmp_path_factory.mktemp("vizwiz")
    write_scenes(home / "scenes", 24, 8, 2, ["en"], vizwiz=True, workers=1)
    files = [str(home / f"scenes/vizwiz/{split}.json") for split in ("train", "val")]
    clip = ["--extractor", "clip", "--weights", WEIGHTS, "--dtype", "float32", "--set", "tensor=projected"]
    for split in ("train", "val"):
        pictures = [str(home / f"scenes/vizwiz/{split}"), str(home / f"{split}.featx"), "--key-rule", "stem"]
        assert main(["extract", *pictures, *clip, "--quiet"]) == 0
    texts = ["--extractor", "clip-text", "--weights", WEIGHTS, "--quiet"]
    assert main(["extract", *files, str(home / "texts.featx"), *texts]) == 0
    (home / "vizwiz.yaml").write_text(
        f"""
task: clip-linear-vizwiz
store: {{train: {home}/train.featx, val: {home}/val.featx}}
texts: {home}/texts.featx
model: {{hidden: 16}}
data: {{train: {{questions: {files[0]}}}, val: {{questions: {files[1]}}}}}
train: {{epochs: 2, batch: 8, workers: 1}}
"""
    )
    assert main(["train", str(home / "vizwiz.yaml"), "--out", str(home / "run"), "--quiet"]) == 0
    return home


def test_from_the_cache_is_the_same_as_from_pixels_and_words(home: Path) -> None:
    from featx import Predictor

    cached = Predictor(home / "run/best", home / "val.featx", texts=home / "texts.featx", score="logit")
    live = Predictor(home / "run/best", score="logit")
    rows = json.loads((home / "scenes/vizwiz/val.json").read_text())[:4]
    for row in rows:
        stored, key = home / "scenes/vizwiz/val" / row["image"], row["image"].removesuffix(".jpg")
        found, wanted = cached(key, row["question"], top_k=50), live(str(stored), row["question"], top_k=50)
        assert [a["answer"] for a in found] == [a["answer"] for a in wanted]
        difference = np.array([a["score"] for a in found]) - np.array([a["score"] for a in wanted])
        assert abs(difference).max() <= 1e-5


def test_a_question_that_the_store_of_texts_lacks_is_embedded_by_the_text_tower(home: Path) -> None:
    from featx import Predictor

    predictor = Predictor(home / "run/best", home / "val.featx", texts=home / "texts.featx")
    key = next(iter(predictor.store or []))
    assert len(predictor(key, "Where did I leave my keys?", top_k=2)) == 2
    told = predictor.sight.embed(["Where did I leave my keys?", "What is the thing?"])
    assert isinstance(told, torch.Tensor)
    assert told.shape[0] == 2
    known = json.loads((home / "scenes/vizwiz/val.json").read_text())[0]["question"]
    assert [predictor.is_longer(text) for text in ("Where?", "where " * 200, known)] == [False, True, False]


def test_both_files_of_answers_come_from_one_command_each(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(home / "run/best"), str(home / "val.featx"), str(home / "scenes/vizwiz/val.json")]
    texts = ["--texts", str(home / "texts.featx"), "--quiet"]
    for form, field in (("vizwiz", "answer"), ("answerability", "answerable")):
        out = home / f"{form}.json"
        assert main(["predict", *words, *texts, "-o", str(out), "--form", form]) == 0
        assert {frozenset(row) for row in json.loads(out.read_text())} == {frozenset(("image", field))}
    for control in ("no-picture", "other-picture"):
        assert main(["predict", *words, *texts, "-o", str(home / "c.json"), "--control", control]) == 0
    assert "Traceback" not in capsys.readouterr().err
