"""The task of captions, as the training loop sees it, and the folder it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from featx.checkpoint.place import locate
from featx.clip_mbart.consumer import ClipVisionMbart
from featx.clip_mbart.losses import caption_loss
from featx.errors import UsageError, WeightsError
from featx.metrics.bleu import corpus_bleu
from featx.registry import load
from featx.store import open_store
from featx.tasks.captions.examples import Described
from featx.tasks.captions.scores import bleu_of
from featx.tasks.captions.task import ClipMbartCaptions
from tests import mbart_toys as toys

MODEL: dict[str, Any] = {"hidden": 24, "heads": 4, "feedforward": 48, "layers": 1, "dim": toys.DIM, "init_std": 0.3,
                         "dropout": 0.0, "tokenizer": {"size": 200}, "max_length": 20}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toys.make_store(tmp_path / "store")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    specs = [{"captions": str(path), "language": name} for name, path in toys.write_captions(tmp_path).items()]
    return {"train": specs, "val": specs}


def build(data: dict[str, Any], **changes: Any) -> ClipMbartCaptions:
    torch.manual_seed(0)
    made = load("featx.tasks", "clip-mbart-captions").from_options({"model": MODEL, "data": data, **changes})
    assert isinstance(made, ClipMbartCaptions)
    return made


def batch_of(made: ClipMbartCaptions, store: Path, examples: Any) -> dict[str, torch.Tensor]:
    with open_store(store) as reader:
        records = reader.get_batch([made.key(one) for one in examples])
        return {n: t.clone() for n, t in made.prepare(examples, records, None).items()}


def learn(made: ClipMbartCaptions, store: Path, steps: int = 120) -> dict[str, float]:
    batch = batch_of(made, store, made.examples("train"))
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        made.loss(batch)["loss"].backward()
        optimiser.step()
    made.model.eval()
    with torch.no_grad():
        written = made.predict(batch_of(made, store, made.examples("val")))
    return made.metric(made.examples("val"), written)


def test_training_sees_captions_and_evaluation_pictures(data: dict[str, Any]) -> None:
    made = build({"train": data["train"], "val": [*data["val"], data["val"][1]]})
    assert len(made.examples("train")) == 18
    val = made.examples("val")
    assert [one.language for one in val] == ["en"] * 9 + ["fr"] * 9
    assert val[9] == Described("p0", "fr", (toys.TEXTS["fr"][0],) * 2)
    assert made.languages == ["en", "fr"]


def test_a_batch_is_the_picture_and_its_caption_behind_the_code_of_its_language(
    data: dict[str, Any], store: Path
) -> None:
    made = build(data)
    examples = [made.examples("train")[i] for i in (0, 10)]
    batch = batch_of(made, store, examples)
    assert made.tokens.decode(batch["labels"].tolist()) == [toys.TEXTS["en"][0], toys.TEXTS["fr"][1]]
    assert batch["codes"].tolist() == batch["labels"][:, 0].tolist() == [made.tokens.code("en"), made.tokens.code("fr")]
    assert (batch["real"] == (batch["labels"] != 1)).all()
    with open_store(store) as reader:
        assert torch.equal(batch["features"], reader.get_batch(["p0", "p1"]).features)
    with pytest.raises(UsageError, match="name a store"):
        made.prepare(examples, None, None)


@pytest.mark.parametrize(("start", "first"), [("eos", 2), ("pad", 1)])
def test_the_loss_is_that_of_transformers_behind_the_start_that_is_asked_for(
    data: dict[str, Any], store: Path, start: str, first: int
) -> None:
    made = build(data, start=start, smoothing=0.1)
    batch = batch_of(made, store, made.examples("train"))
    ids = batch["labels"].roll(1, dims=1)
    ids[:, 0] = first
    with torch.no_grad():
        seen = made.model.model.visual_projection(batch["features"])
        logits = made.model(encoder_outputs=(seen,), decoder_input_ids=ids).logits
        assert torch.allclose(
            made.loss(batch)["loss"], caption_loss(logits, batch["labels"], batch["real"], 0.1), atol=1e-5
        )


def test_it_learns_what_only_the_picture_tells_in_each_language(data: dict[str, Any], store: Path) -> None:
    figures = learn(build(data), store)
    assert figures["bleu4"] == pytest.approx(1.0)
    assert list(figures) == ["bleu4", *(f"bleu{n} {language}" for language in ("en", "fr") for n in (1, 2, 3, 4))]
    blind = learn(build(data, zero_features=True), store)
    assert blind["bleu1 en"] < 0.7


def test_beams_and_batches_of_mixed_languages_keep_their_order(data: dict[str, Any], store: Path) -> None:
    made = build(data, search={"beams": 3, "max_length": 15})
    learn(made, store, 60)
    val = made.examples("val")
    mixed = [val[i] for i in (3, 12, 4, 13, 5)]
    with torch.no_grad():
        together = made.predict(batch_of(made, store, mixed))
        alone = [made.predict(batch_of(made, store, [one]))[0] for one in mixed]
    assert together == alone
    assert (made.search.beams, made.search.max_length) == (3, 15)


def test_shuffled_pictures_are_never_their_own(data: dict[str, Any]) -> None:
    made, plain = build(data, shuffle_pictures=True), build(data)
    for own, shown in zip(plain.examples("val"), made.examples("val"), strict=True):
        assert made.key(shown) != own.picture
        assert (shown.language, shown.texts) == (own.language, own.texts)


def test_bleu_is_of_the_corpus_of_each_language_and_repeated_references_count_once() -> None:
    examples = [
        Described("a", "en", ("a red ball is here", "there is a red ball", "one ball")),
        Described("b", "en", ("a blue cube is there",)),
        Described("a", "de", ("ein roter Ball ist hier",)),
    ]
    written = ["a red ball is there", "a blue cube is here", "ein roter Ball ist da"]
    found = bleu_of(examples, written)
    once = [list(examples[0].texts), [examples[1].text] * 3]
    for order in (1, 2, 3, 4):
        assert found[f"bleu{order} en"] == corpus_bleu(written[:2], once, order=order).score / 100
        assert found[f"bleu{order} de"] == corpus_bleu(written[2:], [[examples[2].text]], order=order).score / 100
    assert found["bleu1 de"] == pytest.approx(0.8)
    assert found["bleu4 de"] == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert found["bleu4"] == pytest.approx((found["bleu4 en"] + found["bleu4 de"]) / 2)
    assert next(iter(found)) == "bleu4"


# --- the folder -----------------------------------------------------------------------------------------


def exported(made: ClipMbartCaptions, folder: Path) -> ClipVisionMbart:
    folder.mkdir()
    made.export(folder, {"provenance": toys.PROVENANCE, "figures": {"bleu4": 0.5}})
    return ClipVisionMbart.load(locate(folder))


def test_an_exported_model_writes_what_the_trained_one_writes(
    data: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    made = build(data, extractor={"weights": "tiny"}, start="pad")
    learn(made, store, 60)
    model = exported(made, tmp_path / "m")
    with open_store(store) as reader, torch.no_grad():
        records = reader.get_batch([f"p{i}" for i in range(9)])
        written = made.predict(batch_of(made, store, made.examples("val")))
        assert model.caption(records, "en", beams=1, max_length=21) == written[:9]
        assert model.caption(records, "fr", beams=1, max_length=21) == written[9:]
    assert (model.start, list(model.languages), model.tokens.max_length) == ("pad", ["en", "fr"], 20)
    about = json.loads((tmp_path / "m/featx.json").read_text())
    assert about["wants"] == {
        "fields": ["features", "boxes"], "dim": toys.DIM, "profile": "profile-1", "weights": "weights-1",
        "extractor": {"name": "fake", "options": {"profile": {"tensor": "last_hidden_state", "cls": True},
                                                  "weights": "tiny"}},
    }  # fmt: skip
    assert (about["task"], about["figures"]) == ("clip-mbart-captions", {"bleu4": 0.5})


def test_training_goes_on_from_an_exported_folder(data: dict[str, Any], tmp_path: Path) -> None:
    made = build(data)
    exported(made, tmp_path / "m")
    again = build(data, model={"weights": str(tmp_path / "m"), "dropout": 0.2})
    own, read = made.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert again.tokens.max_length == 20
    assert again.model.config.dropout == 0.2
    assert (again.wants().dim, again.wants().profile, again.wants().weights) == (toys.DIM, "profile-1", "weights-1")


def test_a_published_checkpoint_goes_on_with_features_of_its_own_tower(data: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from featx.checkpoint.tower import tower_hash

    exported(build(data), tmp_path / "m")
    (tmp_path / "m/featx.json").unlink()
    whole, tower = load_file(tmp_path / "m/model.safetensors"), toys.tower().state_dict()
    whole |= {f"model.encoder.vision_model.{name}": t.contiguous() for name, t in tower.items()}
    save_file(whole, tmp_path / "m/model.safetensors")
    wants = build(data, model={"weights": str(tmp_path / "m"), "max_length": 20}).wants()
    assert (wants.weights, wants.switches["tensor"], wants.dim) == (tower_hash(tower), "last_hidden_state", toys.DIM)


def test_an_mbart_gets_a_fresh_projection_fitted_to_the_store(
    data: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    from transformers import MBartConfig, MBartForConditionalGeneration

    words = toys.vocabulary()
    words.save(tmp_path)
    sizes = MBartConfig(vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
                        decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2,
                        max_position_embeddings=30)  # fmt: skip
    theirs = MBartForConditionalGeneration(sizes)
    theirs.save_pretrained(tmp_path)
    model = {"weights": str(tmp_path), "whiten": 4, "max_length": 20}
    made = build(data, model=model, store={"train": str(store)})
    assert torch.equal(made.model.model.shared.weight, theirs.model.shared.weight)
    assert int(torch.linalg.matrix_rank(made.model.model.visual_projection.weight.detach())) == 4
    assert made.wants().weights is None
    assert exported(made, tmp_path / "m").wants.dim == toys.DIM


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "weights": "x"}}, "model.weights and model.hidden are both given"),
        ({"model": {"tokenizer": {"size": 4}}}, "model.tokenizer is"),
        ({"model": {}}, "no vocabulary is given"),
        ({"model": {"tokenizer": {"size": 200}}}, "dimension of the features is not known"),
        ({"model": {**MODEL, "heads": 5}}, "cannot have 5 heads"),
        ({"search": {"beans": 4}}, "did you mean beams"),
        ({"start": "bos"}, "start"),
    ],
)
def test_what_cannot_be_built_is_said(data: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(data, **changes)


def test_a_language_without_a_code_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no language 'kl'"):
        build({"train": {**data["train"][0], "language": "kl"}, "val": data["val"]})


def test_the_share_of_captions_that_are_cut_is_said(data: dict[str, Any]) -> None:
    made = build(data, model={**MODEL, "max_length": 6})
    (note,) = made.notes
    lengths = [len(one.text.replace(".", " .").replace(",", " ,").split()) for one in made.examples("train")]
    assert note.startswith(f"{sum(n > 4 for n in lengths) / len(lengths):.1%} of the training captions")


# --- the loop -------------------------------------------------------------------------------------------


def test_configurations_of_the_repository_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is known; the data they name are not here, and that is the first thing they say."""
    folder = Path(__file__).resolve().parent.parent / "configs"
    monkeypatch.chdir(tmp_path)
    for name in ("clip_vision_mbart_captions.yaml", "clip_mbart_scenes.yaml"):
        text = yaml.safe_load((folder / name).read_text())
        options = {k: v for k, v in text.items() if k not in ("task", "store", "train")}
        with pytest.raises((UsageError, WeightsError), match=r"cannot be read|there is no model|cannot be reached"):
            load("featx.tasks", text["task"]).from_options(options)
