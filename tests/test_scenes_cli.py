"""``featx scenes`` as a person types it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import featx
from featx.cli import main


def test_it_draws_and_says_where_to_go_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "my scenes")
    command = ["scenes", out, "--train", "2", "--val", "1", "--seed", "3", "--languages", "en, de", "--workers", "1"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "2 + 1 pictures of seed 3, with questions and captions in en, de" in told.out
    assert f"next: featx extract '{out}/train' '{out}/train.featx' --weights tiny --key-rule stem" in told.out
    assert "3/3 pictures" in told.err
    assert "refused" not in told.err, "nothing can be"
    assert (tmp_path / "my scenes/captions/captions_val_de.json").is_file()
    assert main(command) == 0, "a second time nothing is left to do"


def test_the_advice_works_as_it_is_written_where_there_are_only_pictures_to_test_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scenes", str(tmp_path / "s"), "--train", "0", "--val", "1", "--languages", "en", "--quiet"]) == 0
    _, advice = capsys.readouterr().out.split("next: featx ")
    assert main([*shlex.split(advice), "--quiet"]) == 0
    with featx.open_store(tmp_path / "s/val.featx") as store:
        assert list(store) == ["scene_000000100001"]


def test_json_is_lines_of_progress_and_one_of_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", str(tmp_path / "s"), "--train", "1", "--val", "1", "--workers", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [line for line in lines if line["event"] != "progress"]  # a slow machine reports in between
    assert [line["event"] for line in lines] == ["summary", "done"]
    assert (lines[0]["done"], lines[0]["total"]) == (2, 2)
    assert (lines[1]["train"], lines[1]["val"], lines[1]["seed"]) == (1, 1, 0)
    assert lines[1]["languages"] == ["en", "fr", "de", "es"]


def test_quiet_shows_no_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", str(tmp_path / "s"), "--train", "1", "--val", "0", "--workers", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train", "-1"], "train is -1 pictures"),
        (["--languages", "en,klingon"], "unknown language 'klingon'"),
        (["--workers", "0"], "0 workers"),
        (["--seed", "-1"], "the seed is -1"),
    ],
)
def test_a_mistake_is_one_sentence_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["scenes", str(tmp_path / "s"), *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "  -> " in told
    assert "Traceback" not in told


def test_a_file_in_the_place_of_the_folder_is_a_sentence_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text("")
    assert main(["scenes", str(tmp_path / "s")]) == 2
    assert "does not hold scenes" in capsys.readouterr().err


def test_drawing_starts_without_torch() -> None:
    code = (
        "import featx.scenes, featx.cli.scenes, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
