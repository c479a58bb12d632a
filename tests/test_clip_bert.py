"""CLIP-Vision-BERT: against transformers' VisualBERT, its folder, and what an answer looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

import featx
from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash, tower_of
from featx.clip_bert.consumer import ClipVisionBert, save
from featx.clip_bert.losses import IGNORED, answer_loss, word_loss
from featx.clip_bert.network import ClipBert
from featx.clip_bert.weights import with_answers
from featx.data import AnswerSpace
from featx.errors import UsageError, WeightsError
from featx.models import load_consumer
from featx.registry import load
from featx.store import open_store
from featx.text.wordpiece import Tokens
from tests import clip_bert_toys as toys
from tests import vle_toys

ANSWERS = AnswerSpace(["<unk>", *vle_toys.THINGS])
TEXTS = ["what is in the first corner?", "qu'y a-t-il dans le dernier coin ?", "what"]
TOWER = "model.embeddings.clip_vision_module.vision_model."


def words(max_length: int = 20) -> Tokens:
    return Tokens.train(TEXTS, 150, max_length)


def write(folder: Path, **about: Any) -> Path:
    """An exported model."""
    folder.mkdir()
    made, config = toys.network(len(words()), len(ANSWERS))
    said = {"max_length": 20, "wants": {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}, **about}
    save(folder, made, config, words(), ANSWERS, said)
    return folder


def random_batch(network: ClipBert, seed: int = 0) -> dict[str, torch.Tensor]:
    """Three texts of 6, 4 and 2 words, and five tokens each of three pictures."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, network.config.vocab_size, (3, 6), generator=random)
    mask = (torch.arange(6) < torch.tensor([[6], [4], [2]])).long()
    features = torch.randn(3, toys.ROWS, toys.DIM, generator=random)
    return {"input_ids": ids * mask, "attention_mask": mask, "features": features,
            "image_mask": torch.ones(3, toys.ROWS, dtype=torch.bool)}  # fmt: skip


def visual_bert(network: ClipBert, place: int) -> Any:
    """transformers' model with our weights; its tokens of a picture all have place 0, to which ``place`` is moved."""
    own = {name.replace("model.", "visual_bert.", 1).replace("classifier", "cls"): t.clone()
           for name, t in network.state_dict().items()}  # fmt: skip
    table = own["visual_bert.embeddings.visual_position_embeddings.weight"]
    table[0] = table[place]
    config = transformers.VisualBertConfig.from_dict(network.config.to_dict() | {"num_labels": network.answers})
    made = transformers.VisualBertForVisualReasoning(config).eval()
    missing, unexpected = made.load_state_dict(own, strict=False)
    assert set(missing) <= {"visual_bert.embeddings.position_ids"}
    assert not unexpected
    return made


@torch.no_grad()
def test_it_is_visual_bert_with_one_place_for_all_tokens_of_a_picture() -> None:
    network, _ = toys.network(60, 7)
    batch = random_batch(network)
    ids, features = batch["input_ids"], batch["features"]
    given = {"input_ids": ids, "attention_mask": batch["attention_mask"], "token_type_ids": torch.zeros_like(ids)}
    seen = {"visual_embeds": features, "visual_token_type_ids": torch.ones(3, toys.ROWS).long()}
    seen["visual_attention_mask"] = torch.ones(3, toys.ROWS).long()
    wanted = visual_bert(network, toys.ROWS)(**given, **seen).logits
    torch.testing.assert_close(network.answer_logits(batch), wanted, atol=1e-5, rtol=0)
    zero = {**batch, "visual_places": torch.zeros(3, toys.ROWS, dtype=torch.int64)}
    torch.testing.assert_close(
        network.answer_logits(zero), visual_bert(network, 0)(**given, **seen).logits, atol=1e-5, rtol=0
    )
    assert (network.answer_logits(zero) - wanted).abs().max() > 0.01


@torch.no_grad()
def test_padding_of_words_and_of_pictures_changes_nothing() -> None:
    """Pictures of other sizes in the batch must not move the place of a picture's tokens."""
    network, _ = toys.network(60, 7)
    batch = random_batch(network)
    logits = network.answer_logits(batch)
    longer = {name: functional.pad(t, (0, 3)) for name, t in batch.items() if name in ("input_ids", "attention_mask")}
    wide = {"features": functional.pad(batch["features"], (0, 0, 0, 4), value=9.0),
            "image_mask": functional.pad(batch["image_mask"], (0, 4))}  # fmt: skip
    torch.testing.assert_close(network.answer_logits({**batch, **longer, **wide}), logits, atol=1e-5, rtol=0)


def test_a_picture_of_more_tokens_than_there_are_places_is_a_sentence() -> None:
    network, _ = toys.network(60, 7)
    batch = random_batch(network)
    batch |= {"features": torch.zeros(3, 40, toys.DIM), "image_mask": torch.ones(3, 40, dtype=torch.bool)}
    with pytest.raises(UsageError, match="pictures have 40 tokens, the network has places for 39"):
        network.answer_logits(batch)


def test_losses_are_those_of_the_original_in_plain_arithmetic() -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((4, 3))
    share = np.log(np.exp(logits).sum(1, keepdims=True)) - logits
    labels = torch.tensor([2, 0, IGNORED, 1])
    wanted = (share[0, 2] + share[1, 0] + share[3, 1]) / 4  # without an answer: zero, and still an example
    assert answer_loss(torch.tensor(logits), labels).item() == pytest.approx(wanted)
    assert answer_loss(torch.tensor(logits), torch.full((4,), IGNORED)).item() == 0
    asked = torch.tensor([[2, 0], [IGNORED, 1]])  # token 0 is not asked for, as in the original
    wanted = (share[0, 2] + share[3, 1]) / 2
    assert word_loss(torch.tensor(logits).reshape(2, 2, 3), asked).item() == pytest.approx(wanted)
    assert word_loss(torch.tensor(logits).reshape(2, 2, 3), asked * 0).item() == 0


def test_other_answers_keep_the_trunk_and_a_network_without_a_pooler_gets_one() -> None:
    network, _ = toys.network(60, 7)
    other = with_answers(network, 3)
    own, made = network.state_dict(), other.state_dict()
    assert all(torch.equal(own[name], made[name]) for name in made if not name.startswith("classifier"))
    assert other.answer_logits(random_batch(network)).shape == (3, 3)
    masked, _ = toys.network(60, None)
    assert masked.word_logits(random_batch(masked)).shape == (3, 6 + toys.ROWS, 60)
    answering = with_answers(masked, 3)
    assert "model.pooler.dense.weight" in answering.state_dict()
    assert not any(name.startswith("cls.") for name in answering.state_dict())


# --- the folder -----------------------------------------------------------------------------------------


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    network, _ = toys.network(len(words()), len(ANSWERS))
    model = ClipVisionBert.load(locate(folder))
    own, read = network.state_dict(), model.network.state_dict()
    assert set(own) == set(read)
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert (model.answers, model.max_length, model.score) == (ANSWERS, 20, "softmax")
    assert (model.wants.dim, model.wants.profile, model.wants.weights) == (toys.DIM, "profile-1", "weights-1")
    stated = json.loads((folder / "config.json").read_text())
    assert (stated["model_type"], stated["id2label"]["1"]) == ("clip-vision-bert", "red ball")
    (folder / "answers.json").unlink()  # as published: the answers are in config.json
    assert ClipVisionBert.load(locate(folder)).answers == ANSWERS
    assert isinstance(load_consumer(str(folder), ClipVisionBert), ClipVisionBert)
    assert load("featx.models", "clip-vision-bert") is ClipVisionBert


def test_flax_pytorch_and_safetensors_files_are_one_network(tmp_path: Path) -> None:
    """The same tensors in flax's form: kernels [in, out], scales, embeddings."""
    msgpack = pytest.importorskip("msgpack")
    folder = write(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *inner, last = name.split(".")
        kind = "embedding" if "embeddings" in inner[-1] else "scale" if inner[-1] == "LayerNorm" else "kernel"
        values = tensor.T.contiguous() if (last, kind) == ("weight", "kernel") else tensor
        at = tree
        for part in inner:
            at = at.setdefault(part, {})
        payload = msgpack.packb((list(values.shape), "float32", values.numpy().tobytes()), use_bin_type=True)
        at[kind if last == "weight" else last] = msgpack.ExtType(1, payload)
    (tmp_path / "flax_model.msgpack").write_bytes(msgpack.packb(tree, use_bin_type=True))
    wanted = ClipVisionBert.load(locate(folder)).network.state_dict()
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "flax_model.msgpack"):
        (tmp_path / name).rename(folder / name)
        found = ClipVisionBert.load(locate(folder)).network.state_dict()
        assert all(torch.equal(found[n], wanted[n]) for n in wanted)
        (folder / name).unlink()


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_every_tensor_is_used_or_the_weights_are_refused(tmp_path: Path, change: str) -> None:
    folder = write(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    name = "model.encoder.layer.1.output.dense.bias"
    if change == "missing":
        del tensors[name]
    else:
        tensors |= {name if change == "shape" else "model.extra": torch.zeros(3)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.(encoder\.layer\.1\.output\.dense\.bias|extra)"):
        ClipVisionBert.load(locate(folder))


def test_answers_and_vocabulary_must_fit_the_network(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (tmp_path / "two.txt").write_text("yes\nno\n")
    with pytest.raises(WeightsError, match="chooses from 4 answers, the list has 2"):
        ClipVisionBert.load(locate(folder), answers=tmp_path / "two.txt")
    (tmp_path / "four.txt").write_text("<unk>\na\nb\nc\n")
    assert list(ClipVisionBert.load(locate(folder), answers=tmp_path / "four.txt").answers) == ["<unk>", "a", "b", "c"]
    (tmp_path / "words").mkdir()
    Tokens.train(["entirely other words, and many more of them: " + " ".join(map(chr, range(600, 900)))], 900).save(
        tmp_path / "words"
    )
    with pytest.raises(WeightsError, match="word pieces"):
        ClipVisionBert.load(locate(folder), tokenizer=tmp_path / "words")
    (folder / "answers.json").unlink()
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({n: v for n, v in stated.items() if n != "id2label"}))
    with pytest.raises(UsageError, match="does not say which answers"):
        ClipVisionBert.load(locate(folder))
    labels = {str(i): f"LABEL_{i}" for i in range(4)}
    (folder / "config.json").write_text(json.dumps({**stated, "id2label": labels}))
    with pytest.raises(UsageError, match="does not say which answers"):
        ClipVisionBert.load(locate(folder))


@pytest.mark.parametrize(("name", "value"), [("hidden_size", "x"), ("num_attention_heads", 5)])
def test_a_configuration_that_makes_no_network_is_told_with_its_file(tmp_path: Path, name: str, value: Any) -> None:
    folder = write(tmp_path / "m")
    stated = json.loads((folder / "config.json").read_text())
    stated["bert_config"][name] = value
    (folder / "config.json").write_text(json.dumps(stated))
    with pytest.raises(WeightsError, match=r"the config\.json of .*model\.safetensors makes no network"):
        ClipVisionBert.load(locate(folder))


@torch.no_grad()
def test_what_an_answer_looked_at_sums_to_one_and_knows_no_padding(tmp_path: Path) -> None:
    model = ClipVisionBert.load(locate(write(tmp_path / "m")))
    store = vle_toys.make_store(tmp_path / "store", 3)
    with open_store(store) as reader:
        records = reader.get_batch(["p0", "p1", "p2"])
        logits, looked = model.attended(records, TEXTS)
        assert torch.equal(logits, model.logits(records, TEXTS))
        assert looked.shape == (3, toys.ROWS)
        torch.testing.assert_close(looked.sum(dim=1), torch.ones(3))
        alone = model.attended(reader.get_batch(["p2"]), TEXTS[2:])[1]
        torch.testing.assert_close(looked[2:], alone)
    assert model.logits(None, TEXTS).shape == (3, len(ANSWERS))
    short = ClipVisionBert.load(locate(write(tmp_path / "short", max_length=4)))
    assert [short.is_cut(text) for text in TEXTS] == [True, True, False]


# --- from the cache ---------------------------------------------------------------------------------------


def tower() -> Any:
    torch.manual_seed(1)
    sizes = transformers.CLIPVisionConfig(
        hidden_size=toys.DIM, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16,
        patch_size=8, projection_dim=8,
    )  # fmt: skip
    made = transformers.CLIPVisionModel(sizes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A whole checkpoint, with a vision tower of its own for pictures of 16 x 16, as published ones are."""
    place = write(tmp_path / "whole")
    (place / "featx.json").unlink()
    seen, whole = tower(), load_file(place / "model.safetensors")
    own = {name.removeprefix("vision_model."): t.contiguous() for name, t in seen.state_dict().items()}
    save_file(whole | {f"{TOWER}{name}": t for name, t in own.items()}, place / "model.safetensors")
    stated = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**stated, "clip_vision_config": seen.config.to_dict()}))
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor.save_pretrained(place)
    return place


def draw_pictures(folder: Path) -> Path:
    folder.mkdir()
    for i, (width, height) in enumerate([(32, 24), (24, 40), (20, 20)]):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i}.png")
    return folder


@torch.no_grad()
def test_answers_from_the_cache_are_those_from_the_pixels(checkpoint: Path, tmp_path: Path) -> None:
    """The extractor with the tower of the checkpoint, a float32 store, and transformers' own tower end to end."""
    pictures = draw_pictures(tmp_path / "pictures")
    featx.extract(str(pictures), str(tmp_path / "store"), extractor="clip", weights=str(checkpoint), dtype="float32",
                  key_rule="stem")  # fmt: skip
    model = load_consumer(str(checkpoint), ClipVisionBert)
    assert isinstance(model, ClipVisionBert)
    assert model.wants.weights == tower_hash(tower_of(load_file(checkpoint / "model.safetensors")))
    assert model.wants.switches == {"tensor": "last_hidden_state", "cls": True}
    keys = ["p0", "p1", "p2"]
    with open_store(tmp_path / "store") as reader:
        cached = model.logits(reader.get_batch(keys), TEXTS)
        assert reader.manifest.provenance["weights"]["sha256"] == model.wants.weights
    processor = transformers.CLIPImageProcessorPil.from_pretrained(checkpoint)
    pixels = processor([Image.open(pictures / f"{key}.png") for key in keys], return_tensors="pt")["pixel_values"]
    features = tower()(pixel_values=pixels).last_hidden_state
    encoded = model.tokens.encode(TEXTS)
    given = {"input_ids": encoded.ids, "attention_mask": encoded.mask, "features": features,
             "image_mask": torch.ones(features.shape[:2], dtype=torch.bool)}  # fmt: skip
    torch.testing.assert_close(cached, model.network.answer_logits(given), atol=1e-5, rtol=0)
    assert cached.std() > 0.05
