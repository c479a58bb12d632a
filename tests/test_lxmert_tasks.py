"""The tasks of question answering, as the training loop sees them, and the folder they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featx.checkpoint.place import locate
from featx.data import Question
from featx.errors import UsageError, WeightsError
from featx.lxmert.folder import load_model
from featx.lxmert.losses import LOSSES
from featx.lxmert.network import answer_logits
from featx.lxmert.place import named
from featx.registry import load
from featx.store import open_store
from featx.tasks.gqa import LxmertGqa
from featx.tasks.vqa import LxmertVqa
from tests import lxmert_toys as toys


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return toys.write_questions(tmp_path / "q.json")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toys.make_store(tmp_path / "store")


def build(questions: Path, **changes: Any) -> LxmertVqa:
    torch.manual_seed(0)
    made = LxmertVqa.from_options(toys.options(questions, **changes))
    assert isinstance(made, LxmertVqa)
    return made


def batch_of(made: Any, store: Path, examples: Any) -> dict[str, torch.Tensor]:
    with open_store(store) as reader:
        batch: dict[str, torch.Tensor] = made.prepare(examples, reader.get_batch([made.key(e) for e in examples]), None)
        return batch


def test_the_tasks_are_found_by_name() -> None:
    assert load("featx.tasks", "lxmert-vqa") is LxmertVqa
    assert load("featx.tasks", "lxmert-gqa") is LxmertGqa
    assert LxmertVqa.name == "lxmert-vqa"


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_has_words_regions_and_soft_targets_and_its_loss_is_the_named_one(
    questions: Path, store: Path, loss: str
) -> None:
    made = build(questions, loss=loss)
    examples = made.examples("train")[:5]
    batch = batch_of(made, store, examples)
    assert {t.shape[0] for t in batch.values()} == {5}
    for row, example in zip(batch["target"], examples, strict=True):
        assert {made.answers[i]: pytest.approx(s.item()) for i, s in enumerate(row) if s} == example.scores
    with torch.no_grad():
        logits = made.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], visual_feats=batch["visual_feats"],
            visual_pos=batch["visual_pos"], visual_attention_mask=batch["visual_attention_mask"],
            token_type_ids=torch.zeros_like(batch["input_ids"]),
        ).question_answering_score  # fmt: skip
        assert torch.equal(made.loss(batch)["loss"], LOSSES[loss](logits, batch["target"]))
        assert made.predict(batch) == [made.answers[i] for i in logits.argmax(1)]


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_what_only_the_picture_tells(tmp_path: Path, loss: str) -> None:
    """One question about pictures of two kinds, which differ in a feature; a blind model is right half of the time."""
    records = {}
    for i in range(16):
        one = toys.record(i)
        one.features[0] = 0
        one.features[0, i % 2] = 3
        records[f"p{i}"] = one
    store = toys.make_store(tmp_path / "s", records)
    rows = [{"question_id": i, "img_id": f"p{i}", "sent": "what colour is it?", "label": {("red", "blue")[i % 2]: 1.0}}
            for i in range(16)]  # fmt: skip
    questions = toys.write_questions(tmp_path / "q.json", rows)
    reached = {}
    for blind in (False, True):
        made = build(questions, loss=loss, zero_features=blind, shuffle_pictures=False)
        batch = batch_of(made, store, made.examples("train"))
        optimiser = torch.optim.AdamW(made.model.parameters(), lr=2e-3)
        for _ in range(60):
            optimiser.zero_grad()
            made.loss(batch)["loss"].backward()
            optimiser.step()
        made.model.eval()
        with torch.no_grad():
            reached[blind] = made.metric(made.examples("train"), made.predict(batch))["accuracy"]
    assert reached == {False: 100.0, True: 50.0}


def test_without_the_picture_all_pictures_are_alike(questions: Path, store: Path) -> None:
    made = build(questions, zero_features=True)
    examples = made.examples("train")
    batch = batch_of(made, store, examples[:12])
    with torch.no_grad():
        logits = answer_logits(made.model, batch)
    assert torch.equal(logits[0::3], logits[0:1].expand(4, -1))
    assert not batch["visual_feats"].any()
    assert not batch["visual_pos"].any()


def test_shuffled_pictures_are_never_their_own_and_only_in_evaluation(questions: Path) -> None:
    made, plain = build(questions, shuffle_pictures=True), build(questions)
    for own, shown in zip(plain.examples("val"), made.examples("val"), strict=True):
        assert made.key(shown) != own.picture
        assert (shown.id, shown.text, shown.scores) == (own.id, own.text, own.scores)
    assert sorted({q.picture for q in made.examples("val")}) == [f"p{i}" for i in range(8)]
    assert list(made.examples("train")) == list(plain.examples("train"))


def test_answers_come_from_a_file_or_from_the_questions(tmp_path: Path, questions: Path) -> None:
    (tmp_path / "a.json").write_text('["no", "blue"]')
    base = toys.options(questions)
    made = LxmertVqa.from_options({**base, "data": {**base["data"], "answers": str(tmp_path / "a.json")}})
    assert list(made.answers) == ["no", "blue"]
    assert made.model.config.num_qa_labels == 2
    assert sorted(build(questions).answers) == sorted(toys.ANSWERS)


def test_decay_spares_biases_and_norms_only_if_told(questions: Path) -> None:
    (everything,) = build(questions).groups()
    names = [name for name, _ in build(questions).model.named_parameters()]
    assert list(everything.names) == names
    assert everything.decay
    decayed, spared = build(questions, decay="usual").groups()
    assert (decayed.decay, spared.decay) == (True, False)
    assert sorted([*decayed.names, *spared.names]) == sorted(names)
    norms = ("LayerNorm.weight", "layer_norm.weight", "logit_fc.2.weight")
    assert set(spared.names) == {n for n in names if n.endswith("bias") or n.endswith(norms)}


def test_vqa_is_scored_by_the_annotators_and_by_kind() -> None:
    made = LxmertVqa.__new__(LxmertVqa)
    ten = ("red",) * 3 + ("blue",) * 7
    examples = [
        Question(1, "p", "?", {"red": 0.9, "blue": 1.0}, ten, "other", "colour", metric="vqa"),
        Question(2, "p", "?", {"red": 0.9, "blue": 1.0}, ten, "other", "shape", metric="vqa"),
        Question(3, "p", "?", {"2": 0.3}, (), "number", "colour"),  # a list that keeps only soft scores
    ]
    figures = made.metric(examples, ["Red.", "blue", "2"])
    assert figures == {"accuracy": 73.33, "other": 95.0, "number": 30.0, "colour": 60.0, "shape": 100.0}
    assert next(iter(figures)) == "accuracy"


def test_gqa_is_scored_by_equality() -> None:
    made = LxmertGqa.__new__(LxmertGqa)
    examples = [Question(i, "p", "?", {"red": 1.0}, answer_type="attr", question_type="query") for i in range(4)]
    figures = made.metric(examples, ["red", "blue", "reds", "red"])
    assert figures == {"accuracy": 50.0, "query": 50.0, "attr": 50.0}


# --- the folder -----------------------------------------------------------------------------------------


def test_an_exported_model_answers_alike_here_and_in_transformers(questions: Path, store: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LxmertForQuestionAnswering

    made = build(questions, loss="ce", extractor={"weights": "tiny"})
    made.model.eval()
    folder = tmp_path / "model"
    folder.mkdir()
    figures = {"accuracy": 42.0}
    made.export(folder, {"provenance": toys.PROVENANCE, "labels": toys.LABELS, "figures": figures, "epoch": 3})
    batch = batch_of(made, store, made.examples("val"))
    read, theirs = load_model(folder), LxmertForQuestionAnswering.from_pretrained(folder)
    with torch.no_grad():
        logits = [answer_logits(network, batch) for network in (made.model, read.network, theirs)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert read.answers == made.answers
    texts = [q.text for q in made.examples("val")]
    assert (
        read.tokens.encode(texts).ids.tolist()
        == AutoTokenizer.from_pretrained(folder)(texts, padding=True)["input_ids"]
    )
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one may read all
    about = json.loads((folder / "featx.json").read_text())
    assert about["wants"] == {
        "fields": ["features", "boxes"], "dim": toys.DIM, "profile": "profile-1", "weights": "weights-1",
        "extractor": {"name": "fake", "options": {"profile": {"name": "toy"}, "weights": "tiny"}},
    }  # fmt: skip
    assert (about["task"], about["loss"], about["figures"]) == ("lxmert-vqa", "ce", figures)
    assert about["trained_on"]["epoch"] == 3


def test_a_float16_folder_is_half_as_large_and_almost_the_same(questions: Path, store: Path, tmp_path: Path) -> None:
    made = build(questions, save_dtype="float16")
    sizes = []
    for name, dtype in (("a", "float16"), ("b", "float32")):
        (tmp_path / name).mkdir()
        made = build(questions, save_dtype=dtype)
        made.export(tmp_path / name, {})
        sizes.append((tmp_path / name / "model.safetensors").stat().st_size)
    assert sizes[0] < 0.6 * sizes[1]
    batch = batch_of(made, store, made.examples("val"))
    half, full = (load_model(tmp_path / name).network for name in "ab")
    with torch.no_grad():
        a, b = answer_logits(half, batch), answer_logits(full, batch)
    assert (a - b).abs().max() < 0.02 * b.abs().max()


def test_training_goes_on_from_an_exported_folder(questions: Path, tmp_path: Path) -> None:
    made = build(questions)
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {"provenance": toys.PROVENANCE})
    base = toys.options(questions)
    data = {name: base["data"][name] for name in ("train", "val")}
    again = LxmertVqa.from_options({"model": {"weights": str(tmp_path / "m"), "dropout": 0.3}, "data": data})
    assert again.answers == made.answers
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), made.model.parameters(), strict=True))
    assert again.model.config.hidden_dropout_prob == 0.3
    wants = again.wants()
    assert (wants.dim, wants.profile, wants.weights) == (toys.DIM, "profile-1", "weights-1")


def goes_on(questions: Path, folder: Path, **changes: Any) -> LxmertVqa:
    """The task that begins with an exported model."""
    base = {"model": {"weights": str(folder)}, "data": toys.options(questions)["data"]}
    made = LxmertVqa.from_options({**base, **changes})
    assert isinstance(made, LxmertVqa)
    return made


def exported(made: LxmertVqa, folder: Path, provenance: Any = toys.PROVENANCE) -> dict[str, Any]:
    """featx.json of a model trained on a store of that provenance."""
    folder.mkdir()
    made.export(folder, {"provenance": provenance})
    about: dict[str, Any] = json.loads((folder / "featx.json").read_text())
    return about


def test_questions_stay_as_long_as_the_model_was_trained_with(questions: Path, tmp_path: Path) -> None:
    model = {**toys.options(questions)["model"], "max_length": 9}
    assert exported(build(questions, model=model), tmp_path / "m")["max_length"] == 9
    assert goes_on(questions, tmp_path / "m").tokens.max_length == 9
    given = {"weights": str(tmp_path / "m"), "max_length": 12}
    assert goes_on(questions, tmp_path / "m", model=given).tokens.max_length == 12
    assert build(questions).tokens.max_length == 20


def test_a_model_that_is_trained_further_knows_where_the_weights_of_its_extractor_are(
    questions: Path, tmp_path: Path
) -> None:
    exported(build(questions, extractor={"weights": "tiny", "chunk": 64}), tmp_path / "m")
    again = goes_on(questions, tmp_path / "m")
    options = exported(again, tmp_path / "same")["wants"]["extractor"]["options"]
    assert options == {"profile": {"name": "toy"}, "weights": "tiny", "chunk": 64}
    others = {**toys.PROVENANCE, "weights": {"sha256": "weights-2", "source": "other.pth"}}
    options = exported(again, tmp_path / "other", others)["wants"]["extractor"]["options"]
    assert options == {"profile": {"name": "toy"}, "weights": "other.pth"}
    mine = goes_on(questions, tmp_path / "m", extractor={"weights": "mine"})
    assert exported(mine, tmp_path / "mine")["wants"]["extractor"]["options"]["weights"] == "mine"


def test_a_model_trained_on_another_store_wants_that_store_from_then_on(questions: Path, tmp_path: Path) -> None:
    exported(build(questions), tmp_path / "m")
    others = {"extractor": "fake", "profile": {"hash": "profile-2"}, "weights": {"sha256": "weights-2", "source": "x"}}
    wants = exported(goes_on(questions, tmp_path / "m"), tmp_path / "n", others)["wants"]
    assert (wants["profile"], wants["weights"]) == ("profile-2", "weights-2")
    wants = exported(goes_on(questions, tmp_path / "m"), tmp_path / "o", {})["wants"]
    assert (wants["profile"], wants["weights"]) == ("profile-1", "weights-1")  # of a store that states nothing


def test_what_becomes_of_the_answers_of_the_weights_is_said(questions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    exported(build(questions), folder)
    assert not build(questions).notes
    assert not goes_on(questions, folder).notes
    (tmp_path / "a.json").write_text('["blue", "green", "The red"]')
    data = {**toys.options(questions)["data"], "answers": str(tmp_path / "a.json")}
    assert goes_on(questions, folder, data=data).notes == [
        f"of 3 answers, {folder} knows 2: the others begin at zero"
    ]  # fmt: skip
    (folder / "answers.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "id2label"}))
    (note,) = goes_on(questions, folder).notes
    assert note == f"{folder} does not say which answers it knows (model.answers): the last layer begins anew"
    trunk = tmp_path / "trunk"
    toys.answering(vocab_size=len(build(questions).tokens)).lxmert.save_pretrained(trunk)
    build(questions).tokens.save(trunk)
    assert goes_on(questions, trunk).notes == [f"{trunk} has no answer head: it begins anew"]


def test_the_share_of_questions_that_are_cut_is_said(questions: Path) -> None:
    base = toys.options(questions)
    made = LxmertVqa.from_options({**base, "model": {**base["model"], "max_length": 4}})
    asked = [q.text for q in made.examples("train")]
    pieces = [len(made.tokens.backend.pre_tokenizer.pre_tokenize_str(text)) for text in asked]
    share = sum(n + 2 > 4 for n in pieces) / len(pieces)  # every word of the toy vocabulary is one piece
    assert share > 0
    assert made.notes == [
        f"{share:.1%} of the training texts are longer than 4 word pieces (model.max_length): their ends are cut"
    ]


def test_a_run_in_place_of_its_model_is_named_with_the_model_it_holds(questions: Path, tmp_path: Path) -> None:
    (tmp_path / "run/best").mkdir(parents=True)
    with pytest.raises(WeightsError, match="there is no model in the folder") as caught:
        goes_on(questions, tmp_path / "run")
    assert caught.value.hint == f"a run keeps its best one in {tmp_path / 'run/best'}"


def test_a_vocabulary_of_another_size_is_refused(questions: Path, tmp_path: Path) -> None:
    """Fewer pieces fit into the network, and mean other words in it."""
    from featx.text.wordpiece import Tokens

    exported(build(questions), tmp_path / "m")
    (tmp_path / "few").mkdir()
    Tokens.train(["what colour"], 30).save(tmp_path / "few")
    model = {"weights": str(tmp_path / "m"), "tokenizer": str(tmp_path / "few")}
    with pytest.raises(WeightsError, match=r"knows \d+ word pieces .*the vocabulary has 16") as caught:
        goes_on(questions, tmp_path / "m", model=model)
    assert "the vocabulary that belongs to the weights" in caught.value.hint


def test_a_question_that_is_repeated_counts_once(tmp_path: Path) -> None:
    rows = [{"question_id": i, "img_id": f"p{i}", "sent": f"what {'cccccc' if i else 'dddddd'}?",
             "label": {"red" if i else "blue": 1.0}, "question_type": "a" if i else "b"} for i in range(3)]  # fmt: skip
    base = toys.options(toys.write_questions(tmp_path / "q.json", rows))
    data = {**base["data"], "train": {**base["data"]["train"], "repeat": {"b": 5}}, "val": [], "answers": {"least": 2}}
    model = {**base["model"], "tokenizer": {"size": 5 + 9 + 2}}  # special, letters, and two words: what, and one more
    made = LxmertVqa.from_options({**base, "data": data, "model": model})
    assert [q.id for q in made.examples("train")] == [0, 0, 0, 0, 0, 1, 2]
    assert isinstance(made, LxmertVqa)
    assert list(made.answers) == ["red"]  # of two questions; blue is the answer to one
    words = set(made.tokens.backend.get_vocab())
    assert ("cccccc" in words, "dddddd" in words) == (True, False)


def test_the_published_width_has_the_published_number_of_places_for_words(questions: Path) -> None:
    from featx.tasks.building import fresh_sizes
    from featx.tasks.options import ModelOptions

    tokens = build(questions).tokens
    places = [fresh_sizes(ModelOptions(hidden=hidden, dim=8), tokens, None).positions for hidden in (None, 768, 128)]
    assert places == [512, 512, 32]


def test_a_folder_whose_parts_do_not_fit_is_refused(questions: Path, tmp_path: Path) -> None:
    build(questions).export(tmp_path, {})
    (tmp_path / "answers.json").write_text('["a", "b"]')
    with pytest.raises(WeightsError, match="4 answers, the list has 2"):
        load_model(tmp_path)
    (tmp_path / "answers.json").unlink()
    assert load_model(tmp_path).answers == build(questions).answers  # config.json names them, too
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "id2label"}))
    with pytest.raises(UsageError, match="does not say which answers"):
        load_model(tmp_path)


def test_published_weights_take_their_answers_and_words_from_elsewhere(shared: Path, tmp_path: Path) -> None:
    fixture = shared / "fixtures/consumers/lxmert/vqa"
    (tmp_path / "answers.json").write_text(json.dumps([f"answer {i}" for i in range(41)]))
    model = load_model(fixture / "BEST.safetensors", answers=tmp_path / "answers.json", tokenizer=fixture)
    assert len(model.answers) == 41
    assert len(model.tokens) == 121
    assert model.about == {}


# --- mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"los": "ce"}, r"los is not a setting.*\n.*did you mean loss"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"decay": "none"}, "decay is 'none'"),
        ({"model": {"hiden": 3}}, r"model.hiden is not a setting.*\n.*hidden"),
        ({"model": {"layers": [1, 2]}}, r"model.layers is \[1, 2\]"),
        ({"model": {"hidden": 30, "heads": 4, "dim": 8, "tokenizer": {"size": 50}}}, "width 30 cannot have 4 heads"),
        ({"model": {"hidden": 32, "heads": 4, "dim": 8}}, "no vocabulary"),
        ({"model": {"hidden": 32, "heads": 4, "tokenizer": {"size": 50}}}, "dimension of the features is not known"),
        ({"model": {"weights": "x", "hidden": 32}}, "both given"),
        ({"model": {"dropout": 1}}, "model.dropout"),
        ({"model": {"init_std": "small"}}, "model.init_std is 'small'"),
        ({"model": {"box_std": 0}}, "model.box_std is 0"),
        ({"model": {"weights": "x", "whiten": 8}}, "model.weights and model.whiten are both given"),
        ({"model": {"dim": 16, "hidden": 32, "heads": 4, "tokenizer": {"size": 50}, "whiten": 8}}, "of a store"),
        ({"data": 3}, "data is 3"),
        ({"data": {"train": "q.json"}}, "data.train is 'q.json'"),
        ({"extractor": "tiny"}, "extractor is 'tiny'"),
        ({"zero_features": "no"}, "zero_features is 'no'\n.*true or false"),
        ({"shuffle_pictures": "false"}, "shuffle_pictures is 'false'"),
        ({"zero_features": 1}, "zero_features is 1"),
        ({"save_dtype": "half"}, "save_dtype is 'half'\n.*one of float32, float16"),
        ({"model": {"weights": 5}}, "model.weights is 5\n.*a text, or nothing for model.weights"),
        ({"model": {"layers": 5}}, "model.layers is 5"),
        ({"model": {"layers": [-1, 0, 1]}}, r"model.layers is \[-1, 0, 1\]"),
        ({"model": {"layers": [1, 0, 0]}}, r"model.layers is \[1, 0, 0\]"),
        ({"model": {"max_length": 1}}, "model.max_length is 1\n.*a whole number of 3 or more"),
        ({"model": {"max_length": 2}}, "model.max_length is 2"),
        ({"model": {"hidden": True}}, "model.hidden is True"),
        ({"model": {"tokenizer": 7}}, "model.tokenizer is 7"),
        ({"model": None}, "no vocabulary is given"),  # a section with nothing in it has its defaults
        ({"data": {"train": {"questions": 5}}}, "data.train.questions is 5"),
        ({"data": {"train": {"questions": "q.json", "only": 5}}}, "data.train.only is 5"),
        ({"data": {"train": {"questions": "q.json", "without": ["p1"]}}}, r"data.train.without is \['p1'\]"),
        ({"data": {"answers": {"least": 0}}}, "data.answers.least is 0"),
        ({"data": {"answers": {"least": -3}}}, "data.answers.least is -3\n.*1 or more"),
        ({"data": {"answers": {"least": "nine"}}}, "data.answers.least is 'nine'"),
        ({"data": {"answers": ["yes"]}}, r"data.answers is \['yes'\]"),
    ],
)
def test_a_wrong_setting_is_a_sentence(questions: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LxmertVqa.from_options(toys.options(questions, **change))


def test_questions_without_answers_cannot_be_learned_from(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "img_id": "p0", "sent": "what?"}]
    with pytest.raises(UsageError, match="1 of 1 train questions are not annotated"):
        build(toys.write_questions(tmp_path / "q.json", rows))


def test_pictures_can_be_chosen_by_a_list(tmp_path: Path, questions: Path) -> None:
    (tmp_path / "mini.txt").write_text("p1\np5\n")
    base = toys.options(questions)
    spec = base["data"]["train"]
    data = {**base["data"], "train": {**spec, "without": str(tmp_path / "mini.txt")},
            "val": {**spec, "only": str(tmp_path / "mini.txt")}}  # fmt: skip
    made = LxmertVqa.from_options({**base, "data": data})
    assert {q.picture for q in made.examples("val")} == {"p1", "p5"}
    assert len(made.examples("train")) == 18
    assert not {"p1", "p5"} & {q.picture for q in made.examples("train")}


def test_the_store_tells_the_dimension(questions: Path, store: Path) -> None:
    base = toys.options(questions)
    model = {k: v for k, v in base["model"].items() if k != "dim"}
    for where in (str(store), {"train": str(store)}):
        made = LxmertVqa.from_options({**base, "model": model, "store": where})
        assert made.wants().dim == toys.DIM


def test_configurations_of_the_repository_begin_with_what_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and tokenizers are a hub id, a run of the repository, or the model that comes with it."""
    import yaml

    hub, asked = pytest.importorskip("huggingface_hub"), []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **more: asked.append(name) or str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in sorted((Path(__file__).resolve().parent.parent / "configs").glob("lxmert_*.yaml")):
        model = yaml.safe_load(path.read_text()).get("model") or {}
        for name in ("weights", "tokenizer"):
            if isinstance(model.get(name), str) and not model[name].startswith("runs/"):
                locate(named(model[name]), weights=False)
    assert sorted(asked) == ["bert-base-uncased", "unc-nlp/lxmert-base-uncased", "unc-nlp/lxmert-base-uncased"]


def test_configurations_of_the_repository_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is known; the data they name are not here, and that is the first thing they say."""
    import yaml

    folder = Path(__file__).resolve().parent.parent / "configs"
    monkeypatch.chdir(tmp_path)  # a demo may have left its data beside the repository's files
    names = sorted(p.name for p in folder.glob("lxmert_*.yaml"))
    assert {"lxmert_gqa.yaml", "lxmert_pretrain.yaml", "lxmert_scenes.yaml", "lxmert_vqa.yaml"} <= set(names)
    for name in names:
        text = yaml.safe_load((folder / name).read_text())
        if "task" not in text:
            continue
        options = {k: v for k, v in text.items() if k not in ("task", "store", "train")}
        with pytest.raises((UsageError, WeightsError), match=r"cannot be read|there is no model|cannot be reached"):
            load("featx.tasks", text["task"]).from_options(options)


def test_whitening_looks_at_the_training_store(questions: Path, store: Path) -> None:
    base = toys.options(questions)
    made, plain = (
        LxmertVqa.from_options({**base, "model": {**base["model"], **more}, "store": {"train": str(store)}})
        for more in ({"whiten": 4}, {})
    )
    rows = torch.cat([torch.from_numpy(r.features[: len(r)]) for r in (toys.record(i, 6 - i % 2) for i in range(8))])
    ranks = []
    with torch.no_grad():
        for task in (made, plain):
            seen = task.model.lxmert.encoder.visn_fc.visn_fc(rows)
            values = torch.linalg.eigvalsh(torch.cov(seen.T.double()))
            ranks.append(int((values > values[-1] * 1e-6).sum()))
    assert ranks == [4, toys.DIM]


def test_seeds_decide_fresh_weights(questions: Path) -> None:
    a, b = build(questions), build(questions)
    assert all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))
    assert np.isfinite(sum(p.sum().item() for p in a.model.parameters()))


def test_a_pre_training_table_is_not_taken_for_the_answers_of_a_task(questions: Path, tmp_path: Path) -> None:
    """Weights of pre-training bring thousands of answers; a task has its own unless it goes on with itself."""
    made = build(questions)
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {})
    about = json.loads((tmp_path / "m/featx.json").read_text())
    del about["loss"]
    (tmp_path / "m/featx.json").write_text(json.dumps(about))
    rows = [{"question_id": i, "img_id": "p0", "sent": "what?", "label": {"blue": 1.0}} for i in range(10)]
    spec = {"questions": str(toys.write_questions(tmp_path / "few.json", rows))}
    tuned = LxmertVqa.from_options({"model": {"weights": str(tmp_path / "m")}, "data": {"train": spec}})
    assert list(tuned.answers) == ["blue"]
