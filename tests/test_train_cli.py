"""``featx train`` as a person meets it: help without waiting, mistakes as sentences, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy_task import make_store, run, write_recipe

SETTINGS = {"epochs": 2, "batch": 8, "lr": 0.01}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cli")
    make_store(home / "store")
    return home


def light(code: str) -> subprocess.CompletedProcess[str]:
    """Run code that must not have loaded torch in the end."""
    parts = ["import argparse, sys", "from featx.cli import guarded", "from featx.cli.train import configure"]
    parts += ["parser = argparse.ArgumentParser()", "parser.set_defaults(debug=False)", "configure(parser)", code]
    parts += ["print('heavy', *[m for m in ('torch', 'transformers') if m in sys.modules])"]
    return subprocess.run([sys.executable, "-c", "\n".join(parts)], capture_output=True, text=True, check=False)


def test_help_loads_no_torch() -> None:
    done = light("try: parser.parse_args(['--help'])\nexcept SystemExit: pass")
    assert done.stdout.splitlines()[-1] == "heavy", done.stderr
    for word in ("--out", "--set", "--store", "--allow-mismatch", "--fresh", "--json", "130"):
        assert word in done.stdout


def test_a_mistake_in_the_configuration_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "store", {"epoch": 2})
    done = light(f"o = parser.parse_args([{str(recipe)!r}, '--out', 'x'])\nprint(guarded(o.run, o))")
    assert done.stdout.splitlines()[-2:] == ["2", "heavy"], done.stderr
    assert "train.epoch is not a setting" in done.stderr
    assert "did you mean epochs?" in done.stderr


def test_a_run_shows_its_epochs_and_ends_with_its_summary(home: Path) -> None:
    recipe = write_recipe(home / "plain.yaml", home / "store", SETTINGS)
    code, told, said = run(recipe, home / "plain")
    assert (code, told) == (0, "")
    assert said.splitlines()[0].startswith("epoch 1: loss 0.")
    assert said.splitlines()[-1].startswith("2 epochs, 12 steps; 0:00:00 of training, ")
    assert "waiting for data; best accuracy" in said.splitlines()[-1]
    code, told, again = run(recipe, home / "plain")
    assert (code, told) == (0, "")
    assert again == said.splitlines()[-1] + "\n", "a finished run is told, not run"


def test_json_gives_the_log_on_stdout(home: Path) -> None:
    recipe = write_recipe(home / "json.yaml", home / "store", SETTINGS)
    code, told, said = run(recipe, home / "json", "--json", "--set", "train.epochs=1", "--set", "train.log_every=2")
    assert (code, said) == (0, "")
    lines = [json.loads(line) for line in told.splitlines()]
    assert [line["event"] for line in lines] == ["start", "train", "train", "train", "epoch", "evaluation", "end"]
    assert lines == [json.loads(line) for line in (home / "json/log.jsonl").read_text().splitlines()]
    code, told, _ = run(recipe, home / "json", "--json", "--set", "train.epochs=1", "--set", "train.log_every=2")
    assert [json.loads(line) for line in told.splitlines()] == lines[-1:], "the end of a finished run is told again"
    code, told, _ = run(recipe, home / "json", "--json")
    assert code == 2
    assert json.loads(told)["error"] == "UsageError"


def test_quiet_keeps_notes_and_errors(home: Path) -> None:
    recipe = write_recipe(home / "quiet.yaml", home / "store", SETTINGS, wants={"weights": "abc"})
    code, told, said = run(recipe, home / "quiet", "--quiet")
    assert (code, told) == (2, "")
    assert said.startswith("featx: the store does not fit task toy:\n  train: weights: found toy-weights, expected abc")
    code, told, said = run(recipe, home / "quiet", "--quiet", "--allow-mismatch")
    assert (code, told) == (0, "")
    assert [line[:22] for line in said.splitlines()] == ["featx: train: weights:", "featx: val: weights: f"]


def test_store_and_device_are_flags_and_fresh_begins_anew(home: Path) -> None:
    recipe = write_recipe(home / "flags.yaml", home / "nowhere", SETTINGS)
    code, _, said = run(recipe, home / "flags")
    assert code == 4
    assert f"there is no store at {home / 'nowhere'}" in said
    code, _, said = run(recipe, home / "flags", "--store", str(home / "store"), "--device", "cuda:63")
    assert code == 2
    assert "the device 'cuda:63' cannot be used" in said
    code, _, said = run(recipe, home / "flags", "--store", str(home / "store"))
    assert code == 0, said
    more = ("--store", str(home / "store"), "--set", "train.epochs=3")
    code, _, said = run(recipe, home / "flags", *more)
    assert code == 2
    assert "train.epochs: begun with 2, now 3" in said
    assert "--fresh" in said
    code, _, said = run(recipe, home / "flags", *more, "--fresh")
    assert code == 0, said
    assert json.loads((home / "flags/config.json").read_text())["train"]["epochs"] == 3


def test_the_same_recipe_builds_the_same_model_every_time(home: Path) -> None:
    recipe = write_recipe(home / "seeded.yaml", home / "store", {**SETTINGS, "lr": 0.0, "epochs": 1})
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(recipe, home / name, "--set", f"train.seed={seed}")[0] == 0
    a, b, c = ((home / name / "final/model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_loss_that_is_no_number_ends_with_1_and_what_to_try(home: Path) -> None:
    recipe = write_recipe(home / "nan.yaml", home / "store", SETTINGS, nan=3)
    code, _, said = run(recipe, home / "nan")
    assert code == 1
    assert "featx: the loss became nan at step 3" in said
    assert "train.lr" in said
    assert "Traceback" not in said
