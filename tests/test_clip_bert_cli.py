"""Questions in several languages on the command line: ask, predict, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featx.cli import main
from featx.predictor import Predictor
from tests import vle_toys
from tests.test_clip_bert import ANSWERS, TEXTS, write


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a store, and a table of three questions with the answers that the model gives to two of them."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "model", loss="ce")
    vle_toys.make_store(folder / "store", 3)
    (folder / "answers.txt").write_text("".join(f"{answer}\n" for answer in ANSWERS))
    predictor = Predictor(str(folder / "model"), str(folder / "store"))
    rows = ["image_file\tquestion\tanswer_label\tlang_id"]
    for i, (text, language) in enumerate(zip(TEXTS, ("en", "fr", "en"), strict=True)):
        said = ANSWERS.index(predictor(f"p{i}", text)[0]["answer"])
        assert said is not None
        rows.append(f"val/p{i}.jpg\t{text}\t{said if i else (said + 1) % len(ANSWERS)}\t{language}")
    (folder / "q.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(list(words)) == code
    found = capsys.readouterr()
    return found.out, found.err


def test_a_table_is_predicted_and_scored_in_each_language(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    run(capsys, "predict", "model", "store", "q.tsv", "-o", "out.json", "--quiet")
    written: list[dict[str, Any]] = json.loads(Path("out.json").read_text())
    assert [row["question_id"] for row in written] == [0, 1, 2]
    out, _ = run(capsys, "evaluate", "out.json", "q.tsv", "--vocabulary", "answers.txt", "--json")
    figures = json.loads(out)
    assert (figures["metric"], figures["overall"]) == ("labels", 66.67)
    assert figures["per language"] == {"en": 50.0, "fr": 100.0}
    _, err = run(capsys, "evaluate", "out.json", "q.tsv", code=2)
    assert "1 files, with a table among them, and no vocabulary" in err
    _, err = run(capsys, "evaluate", "out.json", "q.json", "--vocabulary", "answers.txt", code=2)
    assert "--vocabulary is for a table of questions" in err


def test_a_question_is_answered_in_whatever_language(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    out, _ = run(capsys, "ask", "store", "p1", TEXTS[1], "--model", "model", "--json")
    best = Predictor("model", "store")("p1", TEXTS[1])[0]
    assert best["answer"] in out
    assert f"{best['score']:.4f}"[:5] in out
