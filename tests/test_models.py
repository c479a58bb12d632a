"""Kinds of models: which one a checkpoint is of, what it can do, and the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import featx.cli.models
import featx.models
import featx.registry
from featx.checkpoint.place import locate
from featx.cli import main
from featx.consumer import Answers, Captions, Matches
from featx.errors import MissingDependency, UsageError, WeightsError
from featx.lxmert.consumer import Lxmert
from featx.models import load_consumer, recognise
from tests.test_predictor import save
from tests.toy_models import DIM, KIND, Toy, make_model

ONES = torch.ones(DIM)


def entry(name: str, target: str = "tests.toy_models:Toy") -> EntryPoint:
    return EntryPoint(name, target, "featx.models")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The kinds that are installed, in place of the real ones."""

    def offer(*entries: EntryPoint) -> None:
        monkeypatch.setattr(featx.registry, "entry_points", lambda group: entries if group == "featx.models" else ())

    offer(entry(KIND), entry("lxmert", "featx.lxmert.consumer:Lxmert"))
    return offer


@pytest.mark.usefixtures("offered")
def test_the_kind_of_a_checkpoint_is_told_by_its_config(tmp_path: Path) -> None:
    assert recognise(locate(make_model(tmp_path / "toy", ONES))) is Toy
    assert recognise(locate(save(tmp_path / "lxmert", {}))) is Lxmert
    model = load_consumer(tmp_path / "toy", Matches)
    assert isinstance(model, Toy)
    assert not model.network.training


def test_weights_without_a_config_are_taken_for_those_of_lxmert(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", {})
    (folder / "config.json").unlink()
    assert recognise(locate(folder)) is Lxmert


def test_a_checkpoint_that_nobody_reads_names_its_kind_and_those_known(
    tmp_path: Path, offered: Callable[..., None]
) -> None:
    with pytest.raises(WeightsError, match=r"a model of the kind 'other', which nobody here reads") as caught:
        load_consumer(make_model(tmp_path / "m", ONES, "other"), Answers)
    assert "toy-kind, lxmert" in caught.value.hint or "lxmert, toy-kind" in caught.value.hint


def test_a_checkpoint_that_two_kinds_claim_is_refused(
    tmp_path: Path, offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "m", ONES)
    (folder / "config.json").unlink()
    monkeypatch.setattr(Toy, "recognises", classmethod(lambda cls, place: True))
    with pytest.raises(WeightsError, match="is claimed by "):
        recognise(locate(folder))
    (folder / "config.json").write_text('{"model_type": "toy-kind"}')
    assert recognise(locate(folder)) is Toy


def test_a_kind_that_cannot_be_imported_stands_in_nobodys_way(tmp_path: Path, offered: Callable[..., None]) -> None:
    lxmert = entry("lxmert", "featx.lxmert.consumer:Lxmert")
    offered(entry("broken", "no_such_package.x:Y"), entry("wrong", "tests.toy_models:Nothing"), lxmert)
    folder = save(tmp_path / "m", {})
    (folder / "config.json").unlink()
    assert recognise(locate(folder)) is Lxmert
    with pytest.raises(MissingDependency, match="no_such_package"):
        recognise(locate(make_model(tmp_path / "b", ONES, "broken")))


@pytest.mark.usefixtures("offered")
def test_what_a_model_cannot_do_and_what_it_can_is_said(tmp_path: Path) -> None:
    make_model(tmp_path / "m", ONES)
    with pytest.raises(UsageError, match="of the kind toy-kind, and does not write captions") as caught:
        load_consumer(tmp_path / "m", Captions)
    assert "answer questions, match texts and pictures, find what a text is about" in caught.value.hint


@pytest.mark.usefixtures("offered")
def test_options_that_a_kind_does_not_have_are_a_sentence(tmp_path: Path) -> None:
    make_model(tmp_path / "m", ONES)
    assert load_consumer(tmp_path / "m", Answers, limit=7, heads=None).max_length == 7
    with pytest.raises(UsageError, match="heads is given, and models of the kind toy-kind have none") as caught:
        load_consumer(tmp_path / "m", Answers, heads=3)
    assert "limit" in caught.value.hint


# --- the table ------------------------------------------------------------------------------------------


def test_the_table_has_every_kind_with_what_stops_it(
    offered: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offered(entry(KIND), entry("broken", "no_such_package.x:Y"), entry("wrong", "tests.toy_models:Nothing"))
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.split("\n")[0].split("  ")[0] == "kind"
    assert {"toy-kind", "broken", "wrong"} <= {line.split(" ")[0] for line in out.splitlines()}
    assert "no_such_package" in out
    assert main(["models", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found[KIND]["problem"] == ""
    assert found[KIND]["does"] == ["answer questions", "match texts and pictures", "find what a text is about"]
    assert (found[KIND]["reads"], found[KIND]["checkpoints"]) == ("regions", ["toys"])
    assert "no_such_package" in found["broken"]["problem"]
    assert "AttributeError" in found["wrong"]["problem"]


def test_a_kind_without_its_packages_says_so(
    offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> None:
        raise MissingDependency("the package toybox is not installed", "pip install toybox")

    monkeypatch.setattr(Toy, "check_available", staticmethod(absent), raising=False)
    assert main(["models", KIND, "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert "toybox is not installed" in one["problem"]
    assert one["title"] == "a toy"


def test_one_kind_is_described_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "lxmert"]) == 0
    out = capsys.readouterr().out
    for part in ("lxmert-vqa", "lxmert_vqa.yaml", "airsplay/lxmert", "answer questions", "state"):
        assert part in out
    assert main(["models", "nothing"]) == 2
    assert "no kind of model 'nothing'" in capsys.readouterr().err
