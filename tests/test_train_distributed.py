"""Two processes learn what one learns. Real processes, started by torchrun, talking over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.toy_task import events, make_store, run, write_recipe

# The same examples are in a batch however many processes share it, and what is drawn for them is the same. Dropout is
# off: every process draws its own.
SETTINGS: dict[str, Any] = {"epochs": 4, "batch": 8, "lr": 0.02, "clip": 1.0, "log_every": 1, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("distributed")
    make_store(home / "store")
    for name, more, options in (
        ("one", {}, {"val": 9, "noise": 0.1}), ("two", {}, {"val": 9, "noise": 0.1}),
        ("pieces", {"accumulate": 2}, {"val": 9, "noise": 0.1}),
        ("draws", {}, {"dropout": 0.3, "noise": 0.1}),
    ):  # fmt: skip
        recipe = write_recipe(home / f"{name}.yaml", home / "store", {**SETTINGS, **more}, **options)
        code, _, said = run(recipe, home / name, processes=1 if name == "one" else 2)
        assert code == 0, said
    return home


@pytest.mark.parametrize("several", ["two", "pieces"])
def test_two_processes_have_the_loss_curve_of_one(home: Path, several: str) -> None:
    one, two = ([e for e in events(home / name) if e["event"] == "train"] for name in ("one", several))
    assert len(one) == 24
    assert [e["step"] for e in two] == [e["step"] for e in one]
    for name in ("loss", "norm", "lr"):
        assert [e[name] for e in two] == pytest.approx([e[name] for e in one], abs=1e-4)
    assert [e["parts"]["size"] for e in two] == pytest.approx([e["parts"]["size"] for e in one], abs=1e-4)
    assert one[-1]["loss"] < 0.9 * one[0]["loss"], "nothing was learnt, so nothing was compared"


@pytest.mark.parametrize("several", ["two", "pieces"])
def test_two_processes_end_with_the_weights_and_scores_of_one(home: Path, several: str) -> None:
    one, two = (load_file(home / name / "final/model.safetensors") for name in ("one", several))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=1e-4)
    one_scores, two_scores = (
        [e["figures"] for e in events(home / name) if e["event"] == "evaluation"] for name in ("one", several)
    )
    assert two_scores == one_scores, "9 examples in 2 processes: one has a batch more than the other"


def test_two_processes_that_are_killed_go_on_exactly(home: Path) -> None:
    recipe = home / "draws.yaml"
    assert run(recipe, home / "killed", processes=2, TOY_SIGNAL="16 SIGKILL")[0] != 0
    assert not (home / "killed/final").exists()
    assert json.loads((home / "killed/checkpoints/latest.json").read_text()) == {
        "checkpoint": "step-000000012-epoch-0002"
    }
    code, _, said = run(recipe, home / "killed", processes=2)
    assert code == 0, said
    assert events(home / "killed") == events(home / "draws")
    for name in ("final/model.safetensors", "checkpoints/step-000000024-epoch-0004/state.safetensors"):
        assert (home / "killed" / name).read_bytes() == (home / "draws" / name).read_bytes()


def test_a_signal_to_one_process_stops_all_after_the_same_step(home: Path) -> None:
    recipe = home / "draws.yaml"
    code, _, said = run(recipe, home / "asked", processes=2, TOY_SIGNAL="16 SIGTERM 1")
    assert code != 0
    assert said.count("featx: stopped after step 16 of 24; a checkpoint is kept") == 2
    assert "resume with the same torchrun command" in said
    code, _, said = run(recipe, home / "asked", processes=2)
    assert code == 0, said
    assert events(home / "asked") == events(home / "draws")


def test_a_model_of_which_a_step_uses_a_part_trains_in_two_processes(home: Path) -> None:
    recipe = write_recipe(home / "partial.yaml", home / "store", SETTINGS, partial=True)
    code, _, said = run(recipe, home / "partial", processes=2)
    assert code == 0, said
    extra = load_file(home / "partial/final/model.safetensors")["extra.weight"]
    assert extra.abs().max() > 0


def test_another_number_of_processes_goes_on_and_says_so(home: Path) -> None:
    recipe = write_recipe(home / "fewer.yaml", home / "store", SETTINGS, dropout=0.3)
    code, _, _ = run(recipe, home / "fewer", processes=2, TOY_SIGNAL="16 SIGKILL")
    assert code != 0
    code, _, said = run(recipe, home / "fewer")
    assert code == 0, said
    assert said.count("the run had 2 processes so far and has 1 now: dropout will differ") == 1


def test_the_process_that_waits_longest_for_data_is_the_one_that_is_told_of(home: Path) -> None:
    recipe = write_recipe(home / "slow.yaml", home / "store", {**SETTINGS, "epochs": 1, "workers": 0})
    code, _, said = run(recipe, home / "slow", processes=2, TOY_SLOW="1 0.3")
    assert code == 0, said
    lines = [json.loads(line) for line in (home / "slow/log.jsonl").read_text().splitlines()]
    (epoch,) = [line for line in lines if line["event"] == "epoch"]
    assert epoch["time"]["data"] * epoch["time"]["seconds"] >= 6 * 0.3, "the first process waited for no data at all"


def test_a_folder_that_the_first_process_refuses_is_told_once(home: Path) -> None:
    recipe = write_recipe(home / "strange.yaml", home / "store", SETTINGS)
    (home / "strange").mkdir()
    (home / "strange/thesis.tex").write_text("years of work")
    code, _, said = run(recipe, home / "strange", processes=2)
    assert code != 0
    assert said.count("is not empty and not the folder of a run") == 1
    assert "Connection closed" not in said


def test_what_only_the_first_process_does_is_known_to_all(home: Path) -> None:
    """Its result, and why it failed: two real processes, which agree or would wait for ever."""
    code = "\n".join([
        "import sys",
        "from featx.errors import UsageError",
        "from featx.train.distributed import ToldByFirst, join",
        "def fail(): raise UsageError('no room', 'make some')",
        "with join('cpu') as world:",
        "    assert world.by_first(lambda: {'rank': world.rank}) == {'rank': 0}",
        "    try: world.by_first(fail)",
        "    except (UsageError, ToldByFirst) as error:",
        "        assert isinstance(error, UsageError) == world.first",
        "        assert (error.message, error.hint, error.exit_code) == ('no room', 'make some', 2)",
        "        sys.stdout.write('refused ')  # in one piece: the processes share the pipe",
    ])  # fmt: skip
    (home / "agree.py").write_text(code)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", home / "agree.py"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * 2


def test_a_batch_that_processes_cannot_share_is_refused(home: Path) -> None:
    recipe = write_recipe(home / "odd.yaml", home / "store", {**SETTINGS, "batch": 9})
    code, _, said = run(recipe, home / "odd", processes=2)
    assert code != 0
    assert "train.batch is 9" in said
    assert "give a multiple of 2 for train.batch" in said
    assert "Traceback" not in said.split("featx: ")[1].split("torch.distributed")[0]
