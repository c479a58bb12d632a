"""Settings of the training loop: what a file and --set may say, and what a slip is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from featx.errors import UsageError
from featx.train.config import FREE, TrainConfig
from featx.train.recipe import Recipe, read_recipe


def recipe(tmp_path: Path, text: str, *overrides: str, **flags: Any) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(str(path), overrides, **flags)


def test_a_recipe_names_task_store_and_settings_and_the_rest_goes_to_the_task(tmp_path: Path) -> None:
    read = recipe(tmp_path, "task: t\nstore: s\ntrain: {epochs: 4, betas: [0.5, 0.9]}\nmodel: {layers: 2}\nname: x\n")
    assert (read.task, read.store) == ("t", "s")
    assert (read.train.epochs, read.train.betas) == (4, (0.5, 0.9))
    assert read.options == {"model": {"layers": 2}, "name": "x"}


def test_store_may_be_absent_or_one_for_each_split(tmp_path: Path) -> None:
    assert recipe(tmp_path, "task: t").store is None
    assert recipe(tmp_path, "task: t\nstore: {train: a, val: b}").store == {"train": "a", "val": "b"}


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4", "+1e-4", ".1e-3", "1.e-4"])
def test_a_rate_may_be_written_in_every_usual_way(text: str, tmp_path: Path) -> None:
    assert recipe(tmp_path, f"task: t\ntrain: {{lr: {text}}}").train.lr == 0.0001
    assert recipe(tmp_path, "task: t", f"train.lr={text}").train.lr == 0.0001


def test_text_that_only_resembles_a_number_stays_text(tmp_path: Path) -> None:
    assert recipe(tmp_path, "task: t\nname: 1e4x\nother: e4\nthird: '1e4'").options == {
        "name": "1e4x", "other": "e4", "third": "1e4",
    }  # fmt: skip


def test_overrides_reach_into_sections_make_them_and_win_over_the_file(tmp_path: Path) -> None:
    read = recipe(
        tmp_path, "task: t\ntrain: {epochs: 4}\nmodel: {layers: 2, width: 8}",
        "train.epochs=5", "model.layers=3", "data.train.limit=9", "train.clip=null", "store=other",
        "model.names=[a, b]",
    )  # fmt: skip
    assert (read.train.epochs, read.train.clip, read.store) == (5, None, "other")
    assert read.options == {"model": {"layers": 3, "width": 8, "names": ["a", "b"]}, "data": {"train": {"limit": 9}}}


def test_an_override_of_one_alias_leaves_the_others(tmp_path: Path) -> None:
    text = "task: t\ndata:\n  train: &set {questions: {file: a}}\n  val: *set\n"
    read = recipe(tmp_path, text, "data.val.questions.file=b")
    assert read.options["data"] == {"train": {"questions": {"file": "a"}}, "val": {"questions": {"file": "b"}}}


def test_flags_win_over_overrides_and_absent_flags_do_not(tmp_path: Path) -> None:
    read = recipe(tmp_path, "task: t\nstore: a", "train.device=cuda:1", "store=b", store="c", device=None)
    assert (read.store, read.train.device) == ("c", "cuda:1")
    assert recipe(tmp_path, "task: t", "train.device=cuda:1", device="cpu").train.device == "cpu"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("task: t\ntrain: {epoch: 3}", [], r"train.epoch is not a setting\n.*did you mean epochs\?"),
        ("task: t", ["train.weight-decay=0"], r"train.weight-decay is not a setting\n.*did you mean weight_decay\?"),
        ("task: t", ["train.zebra=0"], r"train.zebra is not a setting\n.*-> known are epochs, "),
        ("task: t\ntrian: {}", [], "section trian; did you mean train"),
        ("task: t\nstores: x", [], "did you mean store"),
        ("task: t", ["tasks=x"], "did you mean task"),
        ("store: x", [], "names no task"),
        ("task: [t]", [], "names no task"),
        ("task: t\ntrain: 5", [], "train is 5"),
        ("task: t\ntrain: 0", [], "train is 0"),
        ("task: t\ntrain: []", [], r"train is \[\]"),
        ("task: t\nstore: 5", [], "store is 5"),
        ("task: t\nstore: {train: [x]}", [], "store is"),
        ("[1, 2]", [], "holds list, expected a mapping"),
        ("a: [", [], "is not YAML"),
        ("task: t", ["train.lr"], "--set train.lr is not an override"),
        ("task: t", [".lr=1"], "is not an override"),
        ("task: t\nmodel: small", ["model.layers=2"], "model is 'small', not a section"),
        ("task: t", ["model.layers=["], "the value is not YAML"),
    ],
)
def test_a_slip_is_named(text: str, overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        recipe(tmp_path, text, *overrides)
    assert caught.value.hint


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read"):
        read_recipe(str(tmp_path / "nowhere.yaml"))


def test_every_free_setting_exists() -> None:
    assert set(FREE) < {f.name for f in fields(TrainConfig)}


@pytest.mark.parametrize("name", [f.name for f in fields(TrainConfig)])
def test_every_setting_refuses_what_is_no_setting_at_all(name: str) -> None:
    with pytest.raises(UsageError, match=f"train.{name} is"):
        TrainConfig.from_dict({name: {"a": "mapping"}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("epochs", 1.5), ("epochs", True), ("epochs", "3"), ("epochs", None), ("batch", 0),
        ("accumulate", 0), ("eval_batch", 0), ("optimiser", "adamax"), ("optimiser", None), ("lr", -1), ("lr", "fast"),
        ("lr", float("nan")), ("lr", True), ("betas", [0.9]), ("betas", [0.9, 1.0]), ("betas", 0.9), ("eps", 0),
        ("momentum", 1), ("weight_decay", -0.1), ("schedule", "step"), ("warmup", -1), ("warmup", 1.5), ("clip", 0),
        ("precision", "float64"), ("seed", -1), ("evaluate_every", 0), ("patience", 0), ("device", "gpu"),
        ("device", "cuda:x"), ("workers", -1), ("checkpoint_every", 0), ("keep", 0), ("log_every", 0),
        ("tensorboard", "yes"), ("max_steps", 0), ("lr_floor", -1), ("planned_steps", 0),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_with_what_would(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig.from_dict({name: value})
    assert caught.value.message == f"train.{name} is {value!r}"
    assert caught.value.hint.startswith("give ")
    assert caught.value.hint.endswith(f"for train.{name}")


def test_float16_is_refused_on_a_cpu_and_patience_without_evaluations() -> None:
    with pytest.raises(UsageError, match="float16 needs CUDA"):
        TrainConfig(precision="float16")
    assert TrainConfig(precision="float16", device="cuda").precision == "float16"
    with pytest.raises(UsageError, match="patience counts evaluations"):
        TrainConfig(patience=2, evaluate_every=None)


def test_a_configuration_survives_json() -> None:
    config = TrainConfig(epochs=3, betas=(0.5, 0.6), clip=1.0)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_task_is_told_where_its_store_is_but_a_run_may_move_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told:
        from_options = staticmethod(dict)

    monkeypatch.setattr("featx.train.recipe.load", lambda group, name: Told)
    assert recipe(tmp_path, "task: t\nstore: s\nx: 1").build() == {"x": 1, "store": "s"}
    assert recipe(tmp_path, "task: t\nx: 1").build() == {"x": 1}
    assert recipe(tmp_path, "task: t\nstore: s\nx: 1").options == {"x": 1}
