"""``clip-linear-vizwiz``: what it learns, what it refuses, and what comes out of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featx.cli import main
from featx.clip_linear.consumer import ClipLinear
from featx.clip_linear.losses import NONE
from featx.errors import KeyNotFound, UsageError
from featx.predictor import Predictor
from featx.registry import load
from featx.store import open_store
from featx.tasks.vizwiz.task import ClipLinearVizwiz
from featx.train import TrainConfig, train
from featx.train.recipe import read_recipe
from tests import linear_toys as toys

FAST: dict[str, Any] = {"epochs": 12, "batch": 32, "optimiser": "adam", "lr": 3e-3, "workers": 1, "seed": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of questions, and stores of pictures and texts."""
    home = tmp_path_factory.mktemp("vizwiz")
    for split, world in (("train", toys.World(480)), ("val", toys.World(160, seed=1))):
        world.write(home / f"{split}.json")
        world.store(home / f"{split}.featx")
    toys.text_store(home / "texts.featx")
    return home


def options(home: Path, **changes: Any) -> dict[str, Any]:
    data = {split: {"questions": str(home / f"{split}.json")} for split in ("train", "val")}
    base = {
        "store": {split: str(home / f"{split}.featx") for split in ("train", "val")},
        "texts": str(home / "texts.featx"), "data": data, "model": {"hidden": 48, "dropout": 0.1},
    }  # fmt: skip
    return {**base, **changes}


def task_of(home: Path, **changes: Any) -> ClipLinearVizwiz:
    torch.manual_seed(0)
    made = load("featx.tasks", "clip-linear-vizwiz").from_options(options(home, **changes))
    assert isinstance(made, ClipLinearVizwiz)
    return made


def trained(home: Path, out: Path, settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The figures of the last evaluation."""
    task = task_of(home, **changes)
    outcome = train(task, options(home, **changes)["store"], TrainConfig.from_dict({**FAST, **(settings or {})}), out)
    return dict(outcome.figures)


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, trained(home, out)


def test_answers_and_answerability_are_learned_and_not_from_the_question_alone(
    home: Path, run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    figures, blind = run[1], trained(home, tmp_path / "blind", zero_features=True)
    questions = task_of(home).examples("val")
    prior = 100 * sum(q.answer_type == "unanswerable" for q in questions) / len(questions)
    assert figures["accuracy"] > 90
    assert figures["ap_unanswerable"] > 99
    assert figures["ap_answerable"] > 99
    assert figures["type_accuracy"] > 95
    assert {"other", "yes/no", "unanswerable"} <= set(figures)
    assert blind["accuracy"] < 60
    assert blind["ap_unanswerable"] < prior + 20


def test_another_picture_is_as_bad_as_none(home: Path, tmp_path: Path) -> None:
    assert trained(home, tmp_path / "other", shuffle_pictures=True)["accuracy"] < 60


def test_what_was_exported_answers_as_the_task_does(home: Path, run: tuple[Path, dict[str, Any]]) -> None:
    task, predictor = task_of(home), Predictor(run[0] / "final", home / "val.featx", texts=home / "texts.featx")
    task.model.load_state_dict(load_file(run[0] / "final/model.safetensors"))
    task.model.eval()
    examples = task.examples("val")
    with open_store(home / "val.featx") as store, torch.no_grad():
        batch = task.prepare(examples, store.get_batch([q.picture for q in examples]), None)
        said = task.predict(batch)
    found = [answers[0]["answer"] for _, answers in predictor.split(examples)]
    assert found == [one["answer"] for one in said]
    about = json.loads((run[0] / "final/featx.json").read_text())
    assert about["task"] == "clip-linear-vizwiz"
    assert (about["wants"]["weights"], about["wants"]["dim"]) == ("tower-1", toys.IMAGE)
    assert about["texts"]["profile"]["tensor"] == "text"
    assert predictor.answers == task.answers


def test_a_run_that_is_interrupted_goes_on_to_the_same_weights(home: Path, tmp_path: Path) -> None:
    settings = {"epochs": 2, "checkpoint_every": 3}
    trained(home, tmp_path / "whole", settings)
    task, steps = task_of(home), 0
    whole = task.loss

    def loss(batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 20:
            raise RuntimeError("the power is gone")
        return whole(batch)

    task.loss = loss  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the power is gone"):
        train(task, options(home)["store"], TrainConfig.from_dict({**FAST, **settings}), tmp_path / "cut")
    trained(home, tmp_path / "cut", settings)
    found, wanted = (load_file(tmp_path / name / "final/model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_training_sees_any_rotation_and_evaluation_the_picture_as_it_is(home: Path, tmp_path: Path) -> None:
    toys.World(480).store(tmp_path / "turned.featx", rows=4)
    task = task_of(home, store=str(tmp_path / "turned.featx"))
    examples = task.examples("train")[:64]
    with open_store(tmp_path / "turned.featx") as store:
        records = store.get_batch([q.picture for q in examples])
    rngs = [np.random.default_rng(i) for i in range(64)]
    seen = task.prepare(examples, records, rngs)["image"]
    turns = ((seen[:, None] - records.features).abs().sum(2) == 0).int().argmax(1)
    assert set(turns.tolist()) == {0, 1, 2, 3}
    again = task.prepare(examples, records, [np.random.default_rng(i) for i in range(64)])["image"]
    assert torch.equal(seen, again)
    assert torch.equal(task.prepare(examples, records, None)["image"], records.features[:, 0])


def test_an_answer_outside_the_list_is_no_target_and_counts_as_wrong(home: Path, tmp_path: Path) -> None:
    rows = json.loads((home / "val.json").read_text())
    new = next(row for row in rows if row["answer_type"] == "other")
    new["answers"] = [{"answer": "zebra", "answer_confidence": "yes"}] * 10
    (tmp_path / "val.json").write_text(json.dumps(rows))
    data = {"train": {"questions": str(home / "train.json")}, "val": {"questions": str(tmp_path / "val.json")}}
    task = task_of(home, data=data)
    assert "1 of 160 val questions have an answer outside the list" in task.notes
    examples = task.examples("val")
    (question,) = [q for q in examples if q.id == new["image"]]
    with open_store(home / "val.featx") as store:
        batch = task.prepare([question], store.get_batch([question.picture]), None)
    assert batch["answer"].tolist() == [NONE]
    assert task.loss(batch)["answer"].item() == 0
    said = [{"answer": q.answers[0], "answerable": float(bool(q.answerable)), "type": q.answer_type} for q in examples]
    figures = task.metric(examples, said)
    assert figures["ap_unanswerable"] == figures["ap_answerable"] == figures["type_accuracy"] == 100
    wrong = [{**one, "answer": "red"} if q is question else one for q, one in zip(examples, said, strict=True)]
    assert task.metric(examples, wrong)["accuracy"] == pytest.approx(figures["accuracy"] - 100 / 160, abs=0.011)


def test_policies_and_types_of_the_answers_are_chosen(home: Path) -> None:
    data = options(home)["data"]
    sure = task_of(home, data={**data, "answers": {"policy": "confident"}, "types": "patterns"})
    assert set(sure.answers) == {*toys.COLOURS, *toys.KINDS, "yes", "no", "unanswerable"}
    assert sure.consumer.types == ("other", "unanswerable", "unsuitable", "yes", "no", "number", "colour")
    few = task_of(home, data={**data, "answers": {"least": 40}})
    assert 0 < len(few.answers) < len(sure.answers)


def test_pictures_and_texts_must_be_of_one_clip(home: Path, tmp_path: Path) -> None:
    texts = toys.text_store(tmp_path / "texts.featx", tower="tower-2")
    with pytest.raises(UsageError, match=r"train: weights: found tower-1, expected tower-2"):
        trained(home, tmp_path / "run", {"epochs": 1}, texts=str(texts))
    assert not (tmp_path / "run").exists()
    silent = toys.text_store(tmp_path / "silent.featx", tower=None)
    assert any("does not say which weights" in note for note in task_of(home, texts=str(silent)).notes)


def test_what_texts_lack_and_what_are_no_texts_is_told(home: Path, tmp_path: Path) -> None:
    few = toys.text_store(tmp_path / "few.featx", ["What is this?"])
    with pytest.raises(UsageError, match=r"lacks 2 of 3 train questions: .*Is there a cup\?"):
        task_of(home, texts=str(few))
    with pytest.raises(UsageError, match="holds projected, not embeddings of texts"):
        task_of(home, texts=str(home / "train.featx"))
    with pytest.raises(UsageError, match="no store of texts is named"):
        task_of(home, texts=None)
    with pytest.raises(UsageError, match="texts names no store for val"):
        task_of(home, texts={"train": str(home / "texts.featx")})
    other = toys.text_store(tmp_path / "other.featx", tower="tower-2")
    with pytest.raises(UsageError, match="not as the other store of texts"):
        task_of(home, texts={"train": str(home / "texts.featx"), "val": str(other)})


def test_a_store_of_grids_is_refused(home: Path, tmp_path: Path) -> None:
    rows = {"a": np.zeros((5, toys.IMAGE), np.float32)}
    grid = toys.make_store(tmp_path / "grid.featx", rows, toys.provenance("last_hidden_state"))
    with pytest.raises(UsageError, match="holds last_hidden_state, and one vector a picture is wanted"):
        task_of(home, store=str(grid))


def test_texts_are_found_by_the_key_that_they_are_stored_under(home: Path, tmp_path: Path) -> None:
    """White space of a question is no part of its key."""
    rows = json.loads((home / "train.json").read_text())
    rows = [{**row, "question": f" {row['question']}\n"} for row in rows]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    task = task_of(home, data={"train": {"questions": str(tmp_path / "train.json")}})
    with open_store(home / "train.featx") as store:
        batch = task.prepare(task.examples("train")[:2], store.get_batch(list(store)[:2]), None)
    assert batch["text"].shape == (2, toys.TEXT)
    with pytest.raises(KeyNotFound):
        task._texts.gather("train", ["Who?"])


def test_a_model_is_trained_further_on_what_it_was_made_for(
    home: Path, run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    start = {"weights": str(run[0] / "best")}
    task = task_of(home, model=start)
    assert task.wants().profile == "profile-projected"
    figures = trained(home, tmp_path / "more", {"epochs": 1, "lr": 1e-4}, model=start)
    assert figures["accuracy"] > 85
    texts = toys.text_store(tmp_path / "texts.featx", tower="tower-2")
    with pytest.raises(UsageError, match="the model was trained with tower-1"):
        task_of(home, model=start, texts=str(texts))
    with pytest.raises(UsageError, match=r"model\.weights and model\.hidden are both given"):
        task_of(home, model={**start, "hidden": 8})


@pytest.mark.parametrize(("form", "field"), [("vizwiz", "answer"), ("answerability", "answerable")])
def test_both_files_of_the_challenge_are_written_and_scored(
    home: Path, run: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    form: str, field: str,
) -> None:  # fmt: skip
    asked = [{name: row[name] for name in ("image", "question")} for row in json.loads((home / "val.json").read_text())]
    (tmp_path / "test.json").write_text(json.dumps(asked))  # as the test split, without answers
    out, scores = tmp_path / "out.json", tmp_path / "scores.jsonl"
    words = [str(run[0] / "final"), str(home / "val.featx"), str(tmp_path / "test.json")]
    texts = ["--texts", str(home / "texts.featx"), "--quiet"]
    assert main(["predict", *words, *texts, "-o", str(out), "--form", form, "--scores", str(scores)]) == 0
    found = json.loads(out.read_text())
    assert [set(row) for row in found] == [{"image", field}] * len(asked)
    assert [row["image"] for row in found] == [row["image"] for row in asked]
    first = json.loads(scores.read_text().splitlines()[0])
    assert {"answers", "answerable"} & set(first) == {"answers" if form == "vizwiz" else "answerable"}
    capsys.readouterr()
    assert main(["evaluate", str(out), str(home / "val.json"), "--metric", form, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    wanted = run[1]["accuracy" if form == "vizwiz" else "ap_unanswerable"]
    assert figures["overall"] == pytest.approx(wanted, abs=0.011)


def test_without_texts_and_without_an_extractor_that_reads_them_it_is_told_what_is_missing(
    home: Path, run: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run[0] / "final"), str(home / "val.featx"), str(home / "val.json"), "--quiet"]
    assert main(["predict", *words, "-o", str(tmp_path / "out.json")]) != 0
    said = capsys.readouterr().err
    assert "  -> " in said
    assert "Traceback" not in said


def test_answerability_is_not_asked_of_a_model_that_does_not_judge_it(home: Path) -> None:
    predictor = Predictor()
    with pytest.raises(UsageError, match="lxmert does not judge whether a question can be answered"):
        next(predictor.answerability(task_of(home).examples("val")))


def test_whitening_lets_all_directions_of_both_embeddings_count_alike_at_first(home: Path, tmp_path: Path) -> None:
    """And keeps the rest of the network as it would have been drawn."""
    rows = {key: np.float32([100, 10, 1] + [0.01] * 7) * vector for key, vector in toys.World(480).vectors.items()}
    wide = toys.make_store(tmp_path / "wide.featx", {k: v[None] for k, v in rows.items()}, toys.provenance("projected"))
    model = {"hidden": 4000, "whiten": [2, 3]}
    task = task_of(home, store=str(wide), model=model)
    examples = task.examples("train")
    with open_store(wide) as store:
        batch = task.prepare(examples, store.get_batch([q.picture for q in examples]), None)
    made = task.model
    seen = made.ln1(torch.cat([batch["text"], batch["image"]], dim=1)).detach()
    halves = [
        part @ weight.T
        for part, weight in zip(
            seen.split([toys.TEXT, toys.IMAGE], 1), made.fc1.weight.split([toys.TEXT, toys.IMAGE], 1), strict=True
        )
    ]
    spread = [(half - half.mean(0)).detach().var(dim=0).mean().item() for half in halves]
    assert spread == pytest.approx([0.5, 0.5], rel=0.1), "both halves together have variance 1"
    directions = [torch.linalg.svdvals((half - half.mean(0)).detach() / len(seen) ** 0.5) ** 2 for half in halves]
    for found, kept in zip(directions, (2, 3), strict=True):
        assert found[kept - 1] > 0.8 * found[0]
        assert found[kept] < 1e-3 * found[0]
    assert made.fc1(seen).mean(0).abs().max() < 1e-3
    with pytest.raises(UsageError, match=r"model\.whiten looks at the features of a store, and none is named"):
        task_of(home, store=None, model={**model, "dim": toys.IMAGE})


def test_configurations_of_the_repository_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is known; the data they name are not here, and that is the first thing they say."""
    folder = Path(__file__).resolve().parent.parent / "configs"
    monkeypatch.chdir(tmp_path)
    names = sorted(path.name for path in folder.glob("vizwiz_*.yaml"))
    assert names == sorted(ClipLinear.card.recipes)
    for name in names:
        recipe = read_recipe(str(folder / name))
        assert recipe.task in ClipLinear.card.tasks
        with pytest.raises(UsageError, match=r"train\.json cannot be read"):
            recipe.build()


def test_stores_of_vectors_that_others_made_are_written_as_the_page_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs/vizwiz.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "VizWiz").mkdir()
    questions = {text: toys.direction(text, toys.TEXT) for text in toys.QUESTIONS.values()}
    exec(code, {"pictures": toys.World(480).vectors, "questions": questions})
    changes = {"texts": "VizWiz/texts.rn50x64.featx", "store": "VizWiz/train.rn50x64.featx"}
    data = {"train": {"questions": str(home / "train.json")}}
    trained(home, tmp_path / "run", {"epochs": 1}, data=data, **changes)
    wants = json.loads((tmp_path / "run/final/featx.json").read_text())["wants"]
    assert (wants["weights"], wants["dim"], wants["profile"]) == ("RN50x64", toys.IMAGE, "projected")
