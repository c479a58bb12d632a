"""VLE's tasks, as the training loop sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from featx.data import AnswerSpace, Caption, Question
from featx.errors import UsageError, WeightsError
from featx.record import Record
from featx.registry import load
from featx.schema import Field, Schema
from featx.store import open_store
from featx.store.batch import collate
from featx.tasks.vle.answers import first_seen, scores
from featx.tasks.vle.common import VleTask
from featx.tasks.vle.groups import groups_of
from featx.tasks.vle.matching import Others
from featx.vle.losses import patch_loss
from featx.vle.patches import covered, patch_labels
from tests import vle_toys as toys

MODEL: dict[str, Any] = {"hidden": 32, "heads": 4, "feedforward": 64, "layers": [1, 1], "dim": toys.DIM,
                         "init_std": 0.15, "dropout": 0.0, "tokenizer": {"size": 200}, "max_length": 40}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {"vle-vqa": {"answers": {"least": 2}}, "vle-itm": {}, "vle-pbc": {}}
TASKS = list(MORE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.make_store(tmp_path_factory.mktemp("vle") / "store")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return toys.write_data(tmp_path_factory.mktemp("data"))


def build(name: str, data: dict[str, Any], **changes: Any) -> VleTask:
    torch.manual_seed(0)
    specs = {"train": data[name], "val": data[name], **MORE[name]}
    made = load("featx.tasks", name).from_options({"model": MODEL, "data": specs, **changes})
    assert isinstance(made, VleTask)
    return made


def batch_of(made: VleTask, store: Path, examples: Any, seed: int | None = None) -> dict[str, torch.Tensor]:
    rngs = None if seed is None else [np.random.default_rng([seed, i]) for i in range(len(examples))]
    with open_store(store) as reader:
        records = reader.get_batch([made.key(one) for one in examples])
        return {n: t.clone() for n, t in made.prepare(examples, records, rngs).items()}


def learn(made: VleTask, store: Path, steps: int) -> dict[str, float]:
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=4e-3)
    batches = [batch_of(made, store, made.examples("train"), seed) for seed in range(8)]
    for step in range(steps):
        optimiser.zero_grad()
        made.loss(batches[step % len(batches)])["loss"].backward()
        optimiser.step()
    made.model.eval()
    with torch.no_grad():
        found = made.predict(batch_of(made, store, made.examples("val")))
    return made.metric(made.examples("val"), found)


@pytest.mark.parametrize(
    ("name", "steps", "enough", "blind"),
    [("vle-vqa", 70, 95.0, 70.0), ("vle-itm", 200, 85.0, 75.0), ("vle-pbc", 60, 0.95, 0.8)],
)
def test_it_learns_what_only_the_picture_tells(
    data: dict[str, Any], store: Path, name: str, steps: int, enough: float, blind: float
) -> None:
    seeing = learn(build(name, data), store, steps)
    unseeing = learn(build(name, data, zero_features=True), store, 60)
    first = next(iter(seeing))
    assert seeing[first] >= enough, seeing
    assert unseeing[first] < blind, unseeing


@pytest.mark.parametrize("name", TASKS)
def test_every_parameter_is_in_one_group(data: dict[str, Any], name: str) -> None:
    made = build(name, data, rates={"text_model": 50, "cross_modal": 5}, decay="published")
    groups = made.groups()
    names = [n for group in groups for n in group.names]
    assert sorted(names) == sorted(n for n, _ in made.model.named_parameters())
    assert [id(p) for g in groups for p in g.parameters] == [id(dict(made.model.named_parameters())[n]) for n in names]


def test_a_part_that_is_in_no_name_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="rates names vqa_clasifier") as caught:
        build("vle-vqa", data, rates={"vqa_clasifier": 50, "cross_modal": 5}).groups()
    assert "vqa_classifier" in str(caught.value.hint)


def test_rates_and_decay_are_the_published_ones(data: dict[str, Any]) -> None:
    model = build("vle-vqa", data).model
    found = {
        name: (group.lr, group.decay)
        for group in groups_of(model, {"vqa_classifier": 50, "cross_modal": 5}, "published")
        for name in group.names
    }
    assert found["vqa_classifier.0.weight"] == (50, True)
    assert found["vqa_classifier.1.weight"] == (50, True)  # a layer norm that the published rule misses
    assert found["vqa_classifier.1.bias"] == (50, False)
    assert found["vle.cross_modal_text_layers.0.output.LayerNorm.weight"] == (5, False)
    assert found["vle.cross_modal_image_pooler.dense.weight"] == (5, True)
    assert found["vle.vision_model.vision_model.post_layernorm.weight"] == (1, False)
    assert found["vle.text_model.encoder.LayerNorm.weight"] == (1, False)
    assert found["vle.image_projection_layer.weight"] == (1, True)
    usual = {n: g.decay for g in groups_of(model, {}, "usual") for n in g.names}
    assert not usual["vqa_classifier.1.weight"]
    assert all(g.decay for g in groups_of(model, {}, "all"))


def question(number: int, answer: str, given: str, scored: dict[str, float]) -> Question:
    return Question(number, "p", "what?", scored, tuple(given.split("|")), answer=answer)


def test_answers_are_in_the_order_in_which_they_first_come_and_scores_are_of_answers_as_written() -> None:
    asked = [
        question(1, "Two", "two|two|2|2|2|2|3|3|3|1,000", {"2": 1.0, "3": 0.9}),
        question(2, "a dog", "dog|dog", {"dog": 0.6}),
        question(3, "2", "2", {"2": 0.3}),
        question(4, "1,000", "1,000|1,000", {"1000": 0.6}),
        question(5, "dog", "Dog|dog", {"dog": 0.6}),
        question(6, "1000", "x", {}),
        question(7, "cat", "cat", {"cat": 0.3}),
    ]
    space = first_seen(asked, 2)
    assert list(space) == ["2", "dog", "1000"]  # by ViLT's rule: 2 and dog come before 1000, cat comes once
    assert scores(asked[0], space, raw=True) == {"2": 1.0}
    assert scores(asked[4], space, raw=True) == {"dog": 0.3}
    assert scores(asked[4], space, raw=False) == {"dog": 0.6}
    assert scores(asked[3], space, raw=True) == {}
    three = AnswerSpace(["3", "2"])
    assert scores(asked[0], three, raw=True) == {"2": 1.0, "3": 0.9}


def test_training_leaves_out_questions_without_an_answer_in_the_list_and_evaluation_does_not(
    data: dict[str, Any], tmp_path: Path
) -> None:
    AnswerSpace(["red ball", "green ball"]).write(tmp_path / "answers.json")
    specs = {"train": data["vle-vqa"], "val": data["vle-vqa"], "answers": str(tmp_path / "answers.json")}
    made = load("featx.tasks", "vle-vqa").from_options({"model": MODEL, "data": specs})
    kept = sum(toys.things(i).count(0) for i in range(24))
    assert (len(made.examples("train")), len(made.examples("val"))) == (kept, 96)
    assert any(f"{96 - kept} of 96 training questions" in note for note in made.notes)


def test_a_text_of_another_picture_is_in_its_language_and_not_said_about_this_one() -> None:
    captions = [
        Caption(1, "a", "one", "en"), Caption(2, "a", "two", "en"), Caption(3, "b", "one", "en"),
        Caption(4, "b", "three", "en"), Caption(5, "c", "vier", "de"), Caption(6, "d", "drei", "de"),
    ]  # fmt: skip
    others = Others(captions)
    drawn = {others.drawn(captions[0], 1.0, np.random.default_rng(i)) for i in range(50)}
    assert drawn == {("three", False)}
    assert {others.drawn(captions[4], 1.0, np.random.default_rng(i)) for i in range(20)} == {("drei", False)}
    assert others.drawn(captions[0], 0.0, np.random.default_rng(0)) == ("one", True)
    alone = Others([captions[0]])
    assert alone.drawn(captions[0], 1.0, np.random.default_rng(0)) == ("one", True)
    assert others.notes("train") == []
    (told,) = Others([captions[0], captions[1], captions[4], captions[5]]).notes("train")
    assert "the train captions in en are all of the picture a" in told


def test_evaluation_draws_the_same_texts_every_time_and_training_by_its_generators(
    data: dict[str, Any], store: Path
) -> None:
    made = build("vle-itm", data)
    val, train = made.examples("val"), made.examples("train")
    same = [batch_of(made, store, val) for _ in range(2)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    part = batch_of(made, store, val[5:9])
    assert torch.equal(part["matched"], same[0]["matched"][5:9])
    assert 0.25 < same[0]["matched"].float().mean() < 0.75
    epochs = [batch_of(made, store, train, seed)["matched"] for seed in (1, 2, 1)]
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert batch_of(build("vle-itm", data, swap=0.0), store, val)["matched"].all()


def test_a_patch_belongs_to_a_text_when_it_overlaps_one_of_its_boxes() -> None:
    cells = torch.from_numpy(toys.BOXES)
    box = (0.0, 0.0, 12.0, 9.0)
    assert covered(cells[1:], [box]).tolist() == pytest.approx([0.9, 0.18, 0.0, 0.0])
    assert covered(cells[1:], [box, (10.0, 5.0, 20.0, 20.0)]).tolist() == pytest.approx([0.9, 0.5, 0.0, 1.0])
    assert covered(cells[1:], []).tolist() == [0, 0, 0, 0]
    real = torch.tensor([[True] * 5, [True] * 4 + [False]])
    both = torch.stack([cells, cells])
    touched = patch_labels(both, real, [[box], [(15.0, 15.0, 16.0, 16.0)]])
    assert touched.tolist() == [[-100, 1, 1, 0, 0], [-100, 0, 0, 0, -100]]
    assert patch_labels(both[:1], real[:1], [[box]], 0.5).tolist() == [[-100, 1, 0, 0, 0]]
    edge = patch_labels(both[:1], real[:1], [[(0.0, 0.0, 10.0, 10.0)]])
    assert edge.tolist() == [[-100, 1, 0, 0, 0]]  # to touch is not to overlap
    bare = patch_labels(both[:1, 1:], real[:1, 1:], [[(0.0, 0.0, 10.0, 10.0)]])
    assert bare.tolist() == [[1, 0, 0, 0]]  # a grid without a class token


def test_a_picture_in_one_row_has_no_cells_and_is_refused_by_its_name(data: dict[str, Any]) -> None:
    made = build("vle-pbc", data)
    whole = Record(np.ones((1, toys.DIM), np.float32), toys.BOXES[:1], (20, 20), 1, {})
    fields = (Field("features", "float32", (toys.DIM,)), Field("boxes", "float32", (4,)))
    records = collate(["p0", "p0"], [whole, whole], Schema(fields))
    with pytest.raises(UsageError, match="p0 has no cells"):
        made.prepare(made.examples("train")[:2], records, None)


def test_the_loss_of_patches_is_the_mean_over_the_patches_of_each_picture() -> None:
    logits = torch.tensor([[[9.0, 9.0], [0.0, 2.0], [1.0, 0.0]], [[9.0, 9.0], [0.0, 0.0], [5.0, 5.0]]])
    labels = torch.tensor([[-100, 1, 1], [-100, 0, -100]])
    one = [np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(1.0))]
    want = (sum(one) / 2 + np.log(2)) / 2
    assert patch_loss(logits, labels).item() == pytest.approx(want, rel=1e-6)
    parts = [patch_loss(logits[i : i + 1], labels[i : i + 1]).item() for i in (0, 1)]
    assert sum(parts) / 2 == pytest.approx(want, rel=1e-6)


def test_figures_of_patches_are_over_all_of_them(data: dict[str, Any]) -> None:
    made = build("vle-pbc", data)
    found = made.metric([], [[[0.9, 0.4], [0.6]], [[], [0.1, 0.2]]])
    assert found == {"f1": 0.5, "average precision": round((1 + 2 / 3) / 2, 4), "share": 0.4}


@pytest.mark.parametrize("name", TASKS)
def test_pictures_are_needed_and_may_be_another_ones(data: dict[str, Any], name: str) -> None:
    made = build(name, data, shuffle_pictures=True)
    with pytest.raises(UsageError, match="name one"):
        made.prepare(made.examples("train")[:2], None, None)
    for own, shown in zip(made.examples("train"), made.examples("val"), strict=True):
        assert own.text == shown.text
        assert own.picture != shown.picture


@pytest.mark.parametrize("name", TASKS)
def test_whitening_and_sizes_are_of_fresh_weights(data: dict[str, Any], store: Path, name: str) -> None:
    made = build(name, data, model={**MODEL, "whiten": 3}, store=str(store))
    with open_store(store) as reader:
        rows = reader.get_batch([f"p{i}" for i in range(24)]).features.flatten(0, 1).clone()
    with torch.no_grad():
        seen = made.model.vle.see(rows[None])[0].double()
    values = torch.linalg.eigvalsh(torch.cov(seen.T))
    assert int((values > values[-1] * 1e-6).sum()) == 3
    with pytest.raises(UsageError, match=r"model\.weights and model\.hidden"):
        build(name, data, model={"weights": "x", "hidden": 3})
    with pytest.raises(UsageError, match="no vocabulary"):
        build(name, data, model={k: v for k, v in MODEL.items() if k != "tokenizer"})


def test_configurations_of_the_repository_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is known; the data they name are not here, and that is the first thing they say."""
    folder = Path(__file__).resolve().parent.parent / "configs"
    monkeypatch.chdir(tmp_path)
    named = {p.name: yaml.safe_load(p.read_text()) for p in sorted(folder.glob("vle_*.yaml"))}
    tasks = {name: text for name, text in named.items() if "task" in text}
    assert {"vle_base_vqa.yaml", "vle_large_vqa.yaml", "vle_itm.yaml", "vle_pbc_scenes.yaml"} <= set(tasks)
    for text in tasks.values():
        options = {k: v for k, v in text.items() if k not in ("task", "store", "train")}
        with pytest.raises((UsageError, WeightsError), match=r"cannot be read|there is no model|cannot be reached"):
            load("featx.tasks", text["task"]).from_options(options)
