"""The task ``clip-bert-vqa``: what it learns in which language, what it knows without the picture, what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from featx.checkpoint.place import locate
from featx.clip_bert.consumer import ClipVisionBert
from featx.clip_bert.losses import IGNORED
from featx.data import Question
from featx.errors import UsageError, WeightsError
from featx.registry import load
from featx.settings import read
from featx.store import open_store
from featx.tasks.clip_bert.options import ClipBertOptions
from featx.tasks.clip_bert.task import ClipBertVqa
from featx.train.recipe import read_recipe
from tests import clip_bert_toys as toys
from tests import vle_toys
from tests.test_clip_bert import ANSWERS, write
from tests.test_lxmert_training import curve, trained

ROOT = Path(__file__).resolve().parent.parent
COUNT = 12  # pictures
TRAIN: dict[str, Any] = {"epochs": 2, "batch": 24, "lr": 2e-3, "clip": 1.0, "log_every": 1, "workers": 1, "seed": 5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip-bert")
    vle_toys.make_store(folder / "store", COUNT)
    return folder


def options(home: Path, **changes: Any) -> dict[str, Any]:
    specs = toys.write_data(home, COUNT)
    base = {"model": toys.MODEL, "data": {"train": specs, "val": specs, "answers": {"least": 1}}}
    return {**base, "store": str(home / "store"), **changes}


def build(home: Path, **changes: Any) -> ClipBertVqa:
    torch.manual_seed(0)
    made = ClipBertVqa.from_options(options(home, **changes))
    assert isinstance(made, ClipBertVqa)
    return made


def batch_of(made: ClipBertVqa, home: Path, examples: Any) -> dict[str, torch.Tensor]:
    with open_store(home / "store") as reader:
        batch = made.prepare(examples, reader.get_batch([made.key(e) for e in examples]), None)
        return {name: tensor.clone() for name, tensor in batch.items()}


def test_it_is_found_by_its_name_and_knows_the_questions_of_all_languages(home: Path) -> None:
    assert load("featx.tasks", "clip-bert-vqa") is ClipBertVqa
    made = build(home)
    texts = [q.text for q in made.examples("train")]
    assert {q.language for q in made.examples("train")} == {"en", "fr"}
    assert len(texts) == 2 * COUNT * 4
    unknown = made.tokens.backend.token_to_id("[UNK]")
    assert not (made.tokens.encode(texts).ids == unknown).any()
    assert (made.tokens.encode(["warum nicht"]).ids == unknown).any()
    assert made.wants().dim == toys.DIM


@pytest.mark.parametrize("loss", ["ce", "bce_soft"])
def test_it_learns_in_each_language_what_only_the_picture_tells(home: Path, loss: str) -> None:
    reached: dict[bool, dict[str, float]] = {}
    for blind in (False, True):
        made = build(home, loss=loss, zero_features=blind)
        examples = made.examples("train")
        batch = batch_of(made, home, examples)
        optimiser = torch.optim.AdamW(made.model.parameters(), lr=4e-3)
        made.model.train()
        for _ in range(60):
            optimiser.zero_grad()
            made.loss(batch)["loss"].backward()
            optimiser.step()
        made.model.eval()
        with torch.no_grad():
            reached[blind] = made.metric(examples, made.predict(batch))
    assert list(reached[False]) == ["accuracy", "en", "fr", "exact", "exact, known"]
    assert min(reached[False].values()) > 95
    assert max(reached[True].values()) < 60


def test_a_label_is_the_class_of_what_the_annotators_settled_on(home: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("<unk>\nred ball\nblue ball\n")  # and no red cube
    data = options(home)["data"] | {"answers": str(tmp_path / "answers.txt")}
    wanted = {"red ball": 1, "blue ball": 2}
    for unknown, other in (("<unk>", 0), (None, IGNORED)):
        made = build(home, data=data, unknown=unknown)
        examples = made.examples("train")[:20]
        labels = batch_of(made, home, examples)["labels"].tolist()
        assert labels == [wanted.get(q.answer, other) for q in examples]
        assert other in labels
        assert torch.isfinite(made.loss(batch_of(made, home, examples))["loss"])
    with pytest.raises(UsageError, match="unknown is 'none', which is not in the list of answers"):
        build(home, data=data, unknown="none")


def test_figures_are_of_all_of_each_language_and_of_known_answers(home: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("<unk>\nred ball\nblue ball\n")
    made = build(home, data=options(home)["data"] | {"answers": str(tmp_path / "answers.txt")}, unknown="<unk>")
    asked = [("en", "red ball"), ("en", "red cube"), ("fr", "blue ball"), ("fr", "red ball")]
    examples = [
        Question(i, "p0", "?", {answer: 1.0}, (answer,) * 10, "other", "what", language, answer, metric="vqa")
        for i, (language, answer) in enumerate(asked)
    ]
    figures = made.metric(examples, ["red ball", "<unk>", "blue ball", "blue ball"])
    assert figures == {"accuracy": 50.0, "en": 50.0, "fr": 50.0, "exact": 75.0, "exact, known": 66.67}
    assert next(iter(figures)) == "accuracy"  # which decides what the best model is


def test_without_the_picture_all_pictures_are_alike_and_shuffled_ones_are_others(home: Path) -> None:
    made = build(home, zero_features=True)
    same = [q for q in made.examples("train") if "first" in q.text]
    with torch.no_grad():
        logits = made.model.answer_logits(batch_of(made, home, same))
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))
    plain, shuffled = build(home), build(home, shuffle_pictures=True)
    assert all(a.picture != b.picture for a, b in zip(plain.examples("val"), shuffled.examples("val"), strict=True))


def test_decay_spares_biases_and_layer_norms_as_published(home: Path) -> None:
    decayed, spared = build(home).groups()
    assert (decayed.decay, spared.decay) == (True, False)
    names = [name for name, _ in build(home).model.named_parameters()]
    assert set(spared.names) == {n for n in names if n.endswith(("bias", "LayerNorm.weight"))}
    assert sorted([*decayed.names, *spared.names]) == sorted(names)


def test_init_std_decides_how_fresh_weights_are_drawn(home: Path) -> None:
    for std in (0.02, 0.1):
        made = build(home, model={**toys.MODEL, "init_std": std})
        weight = made.model.model.embeddings.word_embeddings.weight
        assert weight.std().item() == pytest.approx(std, rel=0.1)


# --- weights to start from, and what is left ------------------------------------------------------------------


def test_an_exported_model_answers_alike(home: Path, tmp_path: Path) -> None:
    made = build(home)
    made.model.eval()
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {"provenance": vle_toys.PROVENANCE, "figures": {"accuracy": 42.0}})
    model = ClipVisionBert.load(locate(tmp_path / "m"))
    examples = made.examples("val")[:8]
    with torch.no_grad(), open_store(home / "store") as reader:
        records = reader.get_batch([q.picture for q in examples])
        assert torch.equal(
            model.logits(records, [q.text for q in examples]), made.model.answer_logits(batch_of(made, home, examples))
        )
    about = json.loads((tmp_path / "m/featx.json").read_text())
    assert (about["task"], about["loss"], about["max_length"]) == ("clip-bert-vqa", "ce", 16)
    assert (model.wants.profile, model.wants.weights) == ("profile-1", "weights-1")
    assert model.answers == made.answers


def test_weights_go_on_with_their_own_answers_or_begin_anew_with_others(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "start")
    model = {"weights": str(tmp_path / "start"), "dropout": 0.0}
    specs = options(home)["data"]
    kept = build(home, model=model, data={"train": specs["train"], "val": specs["val"]})
    assert kept.answers == ANSWERS
    own = load_file(tmp_path / "start/model.safetensors")
    assert all(torch.equal(own[name], t) for name, t in kept.model.state_dict().items())
    assert kept.notes == []
    other = build(home, model=model)
    assert len(other.answers) == 3
    known = [answer for answer in other.answers if answer in ANSWERS]
    assert f"of 3 answers, {tmp_path / 'start'} knows {len(known)}" in other.notes[0]
    for end in ("weight", "bias"):
        was, now = own[f"classifier.{end}"], other.model.state_dict()[f"classifier.{end}"]
        for place, answer in enumerate(other.answers):
            row = list(ANSWERS).index(answer) if answer in known else None
            assert torch.equal(now[place], torch.zeros_like(now[place]) if row is None else was[row])
    assert known
    trunk = {n: t for n, t in other.model.state_dict().items() if n.startswith("model.")}
    assert all(torch.equal(own[name], t) for name, t in trunk.items())
    with pytest.raises(UsageError, match=r"model\.weights and model\.layers are both given"):
        build(home, model={**model, "layers": 2})
    with pytest.raises(WeightsError, match="there is no model"):
        build(home, model={"weights": str(tmp_path / "nothing/here.bin")})


def test_configurations_of_the_repository_are_understood() -> None:
    found = {}
    for name in ("clip_vision_bert_vqa.yaml", "clip_bert_scenes_en.yaml", "clip_bert_scenes.yaml"):
        recipe = read_recipe(str(ROOT / "configs" / name))
        assert recipe.task == "clip-bert-vqa"
        found[name] = read(ClipBertOptions, "", recipe.options), recipe.train
    published, train = found["clip_vision_bert_vqa.yaml"]
    assert (published.loss, published.unknown, published.decay, published.model.max_length) == (
        "ce", "<unk>", "usual", 78,
    )  # fmt: skip
    assert (train.lr, train.betas, train.eps, train.warmup, train.lr_floor) == (5e-5, (0.9, 0.999), 1e-6, 1600, 1e-6)
    assert (train.batch, train.planned_steps, train.clip) == (1024, 1_775_028 // 1024 * 10, None)
    assert [spec["language"] for spec in published.data.val] == ["en", "fr", "de", "es"]


# --- the loop's guarantees --------------------------------------------------------------------------------


def write_recipe(home: Path, name: str, train: dict[str, Any], dropout: float = 0.0) -> Path:
    path = home / f"{name}.yaml"
    given = options(home, model={**toys.MODEL, "dropout": dropout})
    path.write_text(yaml.safe_dump({"task": "clip-bert-vqa", **given, "train": {**TRAIN, **train}}))
    return path


def test_two_processes_learn_what_one_learns(home: Path) -> None:
    one = trained(write_recipe(home, "one", {}))
    two = trained(write_recipe(home, "two", {}), processes=2)
    alone, shared = [e["loss"] for e in curve(one)], [e["loss"] for e in curve(two)]
    assert len(alone) == len(shared) == 8
    assert shared == pytest.approx(alone, rel=1e-3)
