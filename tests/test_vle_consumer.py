"""VLE as a consumer: what a checkpoint can do, its folder, its vocabulary, and pictures from the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import featx
from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash, tower_of
from featx.consumer import Answers, Captions, Grounds, Matches
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.models import load_consumer
from featx.registry import load
from featx.store import open_store
from featx.text.wordpiece import Tokens
from featx.vle.consumer import VleAll, VleConsumer, save
from featx.vle.heads import ITM, MLM, PBC, VQA
from featx.vocabulary import save_tokens, tokens_in
from tests import vle_toys as toys
from tests.test_vle_tasks import TASKS, batch_of, build

ANSWERS = AnswerSpace(["red ball", "blue ball", "red cube"])
TEXTS = ["what is in the first corner?", "there is a red ball", "cube", "a blue ball and a red cube"]
ALL = (VQA, ITM, PBC)


def words(max_length: int = 20) -> Tokens:
    return Tokens.train(TEXTS, 120, max_length)


def write(folder: Path, heads: tuple[str, ...] = ALL, **about: Any) -> Path:
    """An exported model."""
    folder.mkdir()
    network, config = toys.network(len(words()), heads, len(ANSWERS) if VQA in heads else 0)
    said = {"max_length": 20, "wants": {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}, **about}
    save(folder, network, config, words(), said, ANSWERS if VQA in heads else None)
    return folder


def tower() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(1)
    sizes = CLIPVisionConfig(hidden_size=toys.DIM, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                             image_size=16, patch_size=8, projection_dim=8)  # fmt: skip
    made = CLIPVisionModel(sizes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def processor() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A whole checkpoint, with a vision tower of its own for pictures of 16 x 16, as published ones are."""
    place = write(tmp_path / "whole")
    (place / "featx.json").unlink()
    (place / "answers.json").unlink()
    seen, whole = tower(), load_file(place / "model.safetensors")
    whole |= {f"vle.vision_model.vision_model.{n}": t.contiguous() for n, t in seen.state_dict().items()}
    save_file(whole, place / "model.safetensors")
    stated = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**stated, "vision_config": seen.config.to_dict()}))
    processor().save_pretrained(place)
    return place


@pytest.mark.parametrize("heads", [(VQA,), (ITM,), (PBC,), (ITM, PBC), (ITM, PBC, MLM), (VQA, PBC), ALL])
def test_a_checkpoint_can_do_what_it_has_heads_for(tmp_path: Path, heads: tuple[str, ...]) -> None:
    folder = write(tmp_path / "m", heads)
    for head, ability in ((VQA, Answers), (ITM, Matches), (PBC, Grounds)):
        if head in heads:
            assert isinstance(load_consumer(str(folder), ability), VleConsumer)
        else:
            with pytest.raises(UsageError, match="of the kind vle, and does not"):
                load_consumer(str(folder), ability)
    with pytest.raises(UsageError, match="does not write captions"):
        load_consumer(str(folder), Captions)


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    network, _ = toys.network(len(words()), ALL, len(ANSWERS))
    model: Any = VleAll.load(locate(folder))
    own, read = network.state_dict(), model.network.state_dict()
    assert set(own) == set(read)
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert (model.answers, model.max_length, model.score) == (ANSWERS, 20, "softmax")
    assert (model.wants.dim, model.wants.profile, model.wants.weights) == (toys.DIM, "profile-1", "weights-1")
    names = set(load_file(folder / "model.safetensors"))
    assert "vle.vision_model.vision_model.post_layernorm.weight" in names
    assert not any("patch_embedding" in name for name in names)
    stated = json.loads((folder / "config.json").read_text())
    assert (stated["model_type"], stated["id2label"]["1"]) == ("vle", "blue ball")
    (folder / "answers.json").unlink()  # as published: the answers are in config.json
    assert VleAll.load(locate(folder)).answers == ANSWERS  # type: ignore[attr-defined]


def test_answers_and_vocabulary_must_fit_the_network(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    AnswerSpace(["yes", "no"]).write(tmp_path / "two.json")
    with pytest.raises(WeightsError, match="chooses from 3 answers, the list has 2"):
        VleAll.load(locate(folder), answers=tmp_path / "two.json")
    (tmp_path / "words").mkdir()
    Tokens.train([*TEXTS, "completely different vocabulary with many other letters zxqvjw"], 300).save(
        tmp_path / "words"
    )
    with pytest.raises(WeightsError, match=r"knows \d+ tokens, the vocabulary has \d+"):
        VleAll.load(locate(folder), tokenizer=tmp_path / "words")
    stated = json.loads((folder / "config.json").read_text())
    del stated["id2label"], stated["label2id"]
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "answers.json").unlink()
    with pytest.raises(WeightsError, match="does not say which answers"):
        VleAll.load(locate(folder))
    labels = {str(i): f"LABEL_{i}" for i in range(3)}
    (folder / "config.json").write_text(json.dumps({**stated, "id2label": labels}))
    with pytest.raises(WeightsError, match="does not say which answers"):
        VleAll.load(locate(folder))
    (folder / "config.json").write_text(json.dumps({**stated, "vision_config": {}}))
    with pytest.raises(WeightsError, match=r"the config\.json of .* lacks 'hidden_size'"):
        VleAll.load(locate(folder))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="'bert' and lacks text_config, vision_config, hidden_size"):
        VleAll.load(locate(folder))
    with pytest.raises(UsageError, match="has no head that answers"):
        VleAll.load(locate(write(tmp_path / "itm", (ITM,))), answers=tmp_path / "two.json")


def test_logits_do_not_depend_on_what_else_is_in_a_batch(tmp_path: Path) -> None:
    model: Any = VleAll.load(locate(write(tmp_path / "m")))
    with open_store(toys.make_store(tmp_path / "store")) as store, torch.no_grad():
        records = store.get_batch([f"p{i}" for i in range(4)]).clone()
        ways = {"logits": (4, 3), "match": (4, 2), "ground": (4, toys.ROWS, 2)}
        for way, shape in ways.items():
            together = getattr(model, way)(records, TEXTS)
            assert together.shape == shape
            for i, text in enumerate(TEXTS):
                alone = getattr(model, way)(store.get_batch([f"p{i}"]), [text])
                assert torch.allclose(together[i], alone[0], atol=1e-5)
    assert model.logits(None, TEXTS).shape == (4, 3)
    assert [model.is_cut(text) for text in ("cube", "cube " * 19)] == [False, True]


def test_padding_rows_of_a_picture_are_not_looked_at(tmp_path: Path) -> None:
    model: Any = VleAll.load(locate(write(tmp_path / "m")))
    with open_store(toys.make_store(tmp_path / "store")) as store, torch.no_grad():
        batch = store.get_batch(["p0"]).clone()
    more = {n: torch.cat([t, torch.full_like(t[:, :2], 7)], dim=1) for n, t in
            (("features", batch.features), ("boxes", batch.boxes))}  # fmt: skip
    mask = torch.tensor([[True] * toys.ROWS + [False] * 2])
    longer = replace(batch, **more, mask=mask)
    with torch.no_grad():
        for way in ("logits", "match"):
            plain, padded = (getattr(model, way)(one, TEXTS[:1]) for one in (batch, longer))
            assert torch.allclose(plain, padded, atol=1e-6)
        grounds = model.ground(longer, TEXTS[:1])[:, : toys.ROWS]
        assert torch.allclose(grounds, model.ground(batch, TEXTS[:1]), atol=1e-6)


def test_further_rows_are_means_of_the_pictures_and_have_types_of_their_own() -> None:
    """What VCR's objects need: the row behind the patches, its mask, and its token type, here worked out by hand."""
    network, _ = toys.network(len(words()), (ITM,))
    encoded = words().encode(["a red ball"])
    features = torch.from_numpy(toys.record(0).features)[None]
    means = torch.tensor([[[0, 0.5, 0.5, 0, 0]]])
    types = torch.tensor([[1, 1, 1, 1, 1, 0]])
    with torch.no_grad():
        found = network(encoded.ids, encoded.mask, features, image_types=types, means=means)
        rows = network.vle.see(features)
        rows = torch.cat([rows, rows[:, 1:3].mean(dim=1, keepdim=True)], dim=1)
        text = network.vle.read(encoded.ids, encoded.mask)
        want = network.vle.fuse(text, rows, encoded.mask, torch.ones(1, 6), torch.zeros_like(encoded.ids), types)
        other = network.vle.fuse(text, rows, encoded.mask, torch.tensor([[1, 1, 1, 1, 1, 0]]), None, types)
        plain = network(encoded.ids, encoded.mask, features)
    assert torch.allclose(found.image, want.image, atol=1e-6)
    assert found.image.shape[1] == 6
    assert torch.allclose(other.pooled, plain.pooled, atol=1e-6)
    assert not torch.allclose(found.pooled, plain.pooled, atol=1e-3)


def test_from_the_cache_equals_end_to_end(checkpoint: Path, tmp_path: Path) -> None:
    """Logits of a float32 store's records are those of pixels through transformers' tower; a photo's are, too."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + 3 * i, 30 - 2 * i, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"p{i}.png")
    featx.extract(str(photos), str(tmp_path / "grid"), extractor="clip", weights=str(checkpoint), dtype="float32",
                  key_rule="stem")  # fmt: skip
    model: Any = load_consumer(str(checkpoint), Answers)
    seen, keys = tower(), [f"p{i}" for i in range(4)]
    with open_store(tmp_path / "grid") as store:
        assert store.manifest.provenance["weights"]["sha256"] == model.wants.weights == tower_hash(seen.state_dict())
        records = store.get_batch(keys).clone()
    pixels = processor()([Image.open(photos / f"{key}.png") for key in keys], return_tensors="pt")["pixel_values"]
    encoded = model.tokens.encode(TEXTS)
    with torch.no_grad():
        states = model.network(encoded.ids, encoded.mask, seen(pixels).last_hidden_state)
        for got, want in (
            (model.logits(records, TEXTS), model.network.answer_logits(states)),
            (model.match(records, TEXTS), model.network.match_logits(states)),
            (model.ground(records, TEXTS), model.network.patch_logits(states)),
        ):
            assert (got - want).abs().max() < 1e-5
            assert (want - want.mean(dim=0)).abs().max() > 0.05, "the picture does not matter"
    cached, live = (
        featx.Predictor(str(checkpoint), str(tmp_path / "grid")),
        featx.Predictor(str(checkpoint), extractor={"dtype": "float32"}),
    )
    for key in keys[:2]:
        both = [ask(image, TEXTS[0], top_k=3) for ask, image in ((cached, key), (live, str(photos / f"{key}.png")))]
        assert [one["answer"] for one in both[0]] == [one["answer"] for one in both[1]]
        assert sum(one["score"] for one in both[0]) == pytest.approx(1)  # a softmax, as in the original's pipeline
        assert [one["score"] for one in both[0]] == pytest.approx([one["score"] for one in both[1]], abs=1e-5)
    with pytest.raises(UsageError, match="weights: found weights-1, expected"):
        featx.Predictor(str(checkpoint), str(toys.make_store(tmp_path / "other")))


def test_a_whole_checkpoint_is_shown_a_photo(checkpoint: Path, tmp_path: Path) -> None:
    """By the extractor that its own tower makes: scores as the original's pipelines have them, and their picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    found = featx.Matcher(str(checkpoint))(str(tmp_path / "photo.png"), TEXTS[1])
    assert found["match"] == str(found["score"][1] > 0.5)
    assert sum(found["score"]) == pytest.approx(1)
    grounds = featx.Grounder(str(checkpoint))(str(tmp_path / "photo.png"), TEXTS[1])
    assert grounds["score"].shape == (4, 2)  # without the class token
    assert grounds["score"].sum(axis=1) == pytest.approx(np.ones(4))
    assert grounds["image"].size == (30, 20)


@pytest.mark.parametrize("name", TASKS)
def test_an_exported_model_says_what_the_trained_one_says(tmp_path: Path, name: str) -> None:
    data, store = toys.write_data(tmp_path), toys.make_store(tmp_path / "store")
    made = build(name, data, extractor={"weights": "tiny"})
    made.model.eval()
    folder = tmp_path / "m"
    folder.mkdir()
    made.export(folder, {"provenance": toys.PROVENANCE, "figures": {"accuracy": 50}})
    model: Any = load_consumer(str(folder), {"vle-vqa": Answers, "vle-itm": Matches, "vle-pbc": Grounds}[name])
    examples = made.examples("train")[:6]
    batch = batch_of(made, store, examples, 1) if name != "vle-itm" else batch_of(made, store, examples)
    texts = [one.text for one in examples]
    if name == "vle-itm":
        texts = [text if own else "" for text, own in zip(texts, batch["matched"].tolist(), strict=True)]
    with open_store(store) as reader, torch.no_grad():
        records = reader.get_batch([made.key(one) for one in examples])
        states = made.states(batch)
        got, want = {
            "vle-vqa": lambda: (model.logits(records, texts), made.model.answer_logits(states)),
            "vle-itm": lambda: (model.match(records, texts), made.model.match_logits(states)),
            "vle-pbc": lambda: (model.ground(records, texts), made.model.patch_logits(states)),
        }[name]()
    rows = [i for i, text in enumerate(texts) if text]
    assert rows
    assert torch.allclose(got[rows], want[rows], atol=1e-5)
    about = json.loads((folder / "featx.json").read_text())
    assert (about["task"], about["wants"]["profile"], about["wants"]["weights"]) == (name, "profile-1", "weights-1")
    assert about["wants"]["extractor"]["options"]["weights"] == "tiny"
    again = build(name, data, model={"weights": str(folder), "dropout": 0.2})
    own, read = made.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(own[n], read[n]) for n in own)
    assert (again.tokens.max_length, again.wants().weights) == (40, "weights-1")
    assert again.notes == []


def test_training_begins_with_a_published_checkpoint_and_features_of_its_tower(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = toys.write_data(tmp_path)
    made = build("vle-pbc", data, model={"weights": str(checkpoint), "max_length": 20})
    wants, tensors = made.wants(), load_file(checkpoint / "model.safetensors")
    assert (wants.weights, wants.switches["tensor"], wants.dim) == (
        tower_hash(tower_of(tensors)), "last_hidden_state", toys.DIM,
    )  # fmt: skip
    assert made.model.heads == (PBC,)
    assert torch.equal(made.model.state_dict()["pbc_classifier.3.weight"], tensors["pbc_classifier.3.weight"])
    (tmp_path / "m").mkdir()
    made.export(tmp_path / "m", {"provenance": {"profile": {"hash": "p", "tensor": "last_hidden_state"}}})
    further = build("vle-pbc", data, model={"weights": str(tmp_path / "m"), "max_length": 20})
    assert further.wants().switches == {"tensor": "last_hidden_state", "cls": True}
    made.export(tmp_path / "m", {"provenance": {"profile": {"hash": "p", "tensor": "pooled", "cls": False}}})
    assert json.loads((tmp_path / "m/featx.json").read_text())["wants"]["switches"] == {
        "tensor": "pooled",
        "cls": False,
    }


def test_answers_that_the_weights_know_keep_their_rows_in_another_list(checkpoint: Path, tmp_path: Path) -> None:
    spec = toys.write_data(tmp_path)["vle-vqa"]
    AnswerSpace(["red cube", "green cube", "red ball"]).write(tmp_path / "answers.json")
    data = {"train": spec, "val": spec, "answers": str(tmp_path / "answers.json")}
    made: Any = load("featx.tasks", "vle-vqa").from_options({"model": {"weights": str(checkpoint)}, "data": data})
    old, new = load_file(checkpoint / "model.safetensors"), made.model.state_dict()
    for end in ("weight", "bias"):
        was, now = old[f"vqa_classifier.3.{end}"], new[f"vqa_classifier.3.{end}"]
        assert torch.equal(now[[0, 2]], was[[2, 0]])
        assert not now[1].any()
    assert torch.equal(new["vqa_classifier.0.weight"], old["vqa_classifier.0.weight"])
    assert made.notes[0] == f"of 3 answers, {checkpoint} knows 2: the others begin at zero"
    own = AnswerSpace(["red ball", "blue ball", "red cube"])
    own.write(tmp_path / "answers.json")
    same: Any = load("featx.tasks", "vle-vqa").from_options({"model": {"weights": str(checkpoint)}, "data": data})
    assert same.notes == []
    assert torch.equal(same.model.state_dict()["vqa_classifier.3.weight"], old["vqa_classifier.3.weight"])


def test_a_sentencepiece_vocabulary_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    """DeBERTa-v3's layout: [PAD], [CLS], [SEP], [UNK] are 0 to 3, letters keep their case."""
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, "A Red Cube"] * 20), model_prefix=str(tmp_path / "spm"), vocab_size=60,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
        unk_piece="[UNK]", hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    tokens = tokens_in(tmp_path, 50)
    asked = ["a Red ball", "what is the zebra?", "A red cube"]
    saved = tmp_path / "saved"
    saved.mkdir()
    save_tokens(tokens, saved)
    for read in (tokens, tokens_in(saved, 50)):
        found = read.encode(asked)
        for row, mask, text in zip(found.ids.tolist(), found.mask.tolist(), asked, strict=True):
            assert row[: sum(mask)] == [1, *reference.encode(text), 2]
    assert read.mask_id == reference.get_piece_size()
    assert tokens_in(tmp_path, 5).encode(["a red ball and a cube"]).ids.shape == (1, 5)
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(saved)(asked[0])["input_ids"]
    assert theirs == [1, *reference.encode(asked[0]), 2]
