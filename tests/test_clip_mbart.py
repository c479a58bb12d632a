"""The captioning network: how it is read, what it writes, and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import MBartConfig, MBartForConditionalGeneration

from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash
from featx.clip_mbart.consumer import ClipVisionMbart, save
from featx.clip_mbart.generate import Search, write
from featx.clip_mbart.losses import caption_loss, shifted
from featx.clip_mbart.network import TIED, Sizes, build, caption_logits, encoded, load_decoder, load_network
from featx.errors import UsageError, WeightsError
from featx.store import open_store
from tests import mbart_toys as toys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model."""
    words = toys.vocabulary()
    network, config = toys.network(len(words))
    place = tmp_path / "model"
    place.mkdir()
    about = {"languages": ["fr", "en"], "start_token": "eos", "max_length": words.max_length,
             "wants": {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}}  # fmt: skip
    save(place, network, config, words, about)
    return place


def changed(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Other weights in a folder: tensors replaced, added, or (None) taken out."""
    found: dict[str, Any] = {**load_file(folder / "model.safetensors"), **tensors}
    save_file({n: t.contiguous() for n, t in found.items() if t is not None}, folder / "model.safetensors")


def seen(network: Any, pictures: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return encoded(network, torch.randn(pictures, toys.ROWS, toys.DIM, generator=generator))


def everything(of: torch.Tensor) -> torch.Tensor:
    return torch.ones(of.shape[:2], dtype=torch.bool)


def test_a_folder_is_read_as_it_was_written(folder: Path) -> None:
    network, _ = toys.network(len(toys.vocabulary()))
    model = ClipVisionMbart.load(locate(folder))
    assert ClipVisionMbart.recognises(locate(folder))
    own, read = network.state_dict(), model.network.state_dict()
    assert set(own) == set(read)
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert model.network.lm_head.weight is model.network.model.shared.weight
    assert list(model.languages) == ["fr", "en"]
    assert (model.wants.dim, model.wants.profile, model.wants.weights) == (toys.DIM, "profile-1", "weights-1")
    names = set(load_file(folder / "model.safetensors"))
    assert not names & set(TIED)
    assert {"final_logits_bias", "model.visual_projection.weight", "model.shared.weight"} <= names


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"final_logits_bias": None}, "lacks final_logits_bias"),
        ({"model.decoder.layers.7.fc1.bias": torch.zeros(3)}, "has not, model.decoder.layers.7.fc1.bias"),
        ({"model.visual_projection.bias": torch.zeros(3)}, "in another shape model.visual_projection.bias"),
        ({"lm_head.weight": torch.zeros(3)}, "lm_head.weight differs from model.shared.weight"),
        ({"model.visual_projection.weight": None}, "is no CLIP-Vision-mBART"),
    ],
)
def test_every_tensor_is_used_and_none_is_missing(
    folder: Path, tensors: dict[str, torch.Tensor | None], message: str
) -> None:
    changed(folder, **tensors)
    with pytest.raises(WeightsError, match=message):
        load_network(locate(folder))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_whole_checkpoint_of_torch_wants_the_features_of_its_own_tower(folder: Path, file: str) -> None:
    plain, tower = ClipVisionMbart.load(locate(folder)), toys.tower().state_dict()
    whole = {**load_file(folder / "model.safetensors"), "lm_head.weight": plain.network.lm_head.weight.detach().clone()}
    whole |= {f"model.encoder.vision_model.{name}": t for name, t in tower.items()}
    (folder / "model.safetensors").unlink()
    (folder / "featx.json").unlink()
    if file.endswith(".bin"):
        torch.save(whole, folder / file)
    else:
        save_file({name: t.contiguous() for name, t in whole.items()}, folder / file)
    model = ClipVisionMbart.load(locate(folder))
    assert model.wants.weights == tower_hash(tower)
    assert model.wants.switches == {"tensor": "last_hidden_state", "cls": True}
    assert model.about["wants"]["extractor"] == {
        "name": "clip", "options": {"weights": str(folder), "tensor": "last_hidden_state", "cls": True},
    }  # fmt: skip
    assert list(model.languages) == ["en", "fr"]
    own = model.network.state_dict()
    assert all(torch.equal(t, own[name]) for name, t in plain.network.state_dict().items())


def test_layer_norms_have_the_epsilon_of_who_trained_them_also_when_exported(shared: Path, tmp_path: Path) -> None:
    """Flax's is 1e-6, torch's 1e-5; no config says so. What is written says it."""
    loaded = load_network(locate(shared / "fixtures/consumers/clip_vision_mbart"))

    def epsilons(network: Any) -> set[float]:
        return {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)}

    assert epsilons(loaded.network) == {1e-6}
    save(tmp_path, loaded.network, loaded.config, toys.vocabulary(), {})
    assert epsilons(load_network(locate(tmp_path)).network) == {1e-6}
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["clip_vision_config"]["patch_size"]) == ("clip-vision-mbart", 16)
    del config["mbart_config"]["layer_norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert epsilons(load_network(locate(tmp_path)).network) == {1e-5}


def test_it_is_the_decoder_of_transformers_on_a_projection(tmp_path: Path) -> None:
    """Everything but the text encoder of a checkpoint of mBART is taken; logits are the own model's."""
    torch.manual_seed(3)
    sizes = MBartConfig(vocab_size=50, d_model=24, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
                        decoder_attention_heads=4, encoder_ffn_dim=8, decoder_ffn_dim=32, max_position_embeddings=40,
                        scale_embedding=True, init_std=0.3, dropout=0.0)  # fmt: skip
    theirs = MBartForConditionalGeneration(sizes).eval()
    theirs.final_logits_bias.normal_()
    theirs.save_pretrained(tmp_path)
    loaded = load_decoder(locate(tmp_path), toys.DIM)
    assert loaded.network.model.visual_projection.weight.shape == (24, toys.DIM)
    assert loaded.config["clip_vision_config"]["hidden_size"] == toys.DIM
    ids, what = torch.randint(4, 50, (3, 7)), seen(loaded.network)
    with torch.no_grad():
        got = caption_logits(loaded.network, what, everything(what), ids)
        want = theirs(encoder_outputs=(what,), decoder_input_ids=ids).logits
    assert (got - want).abs().max() < 1e-5
    assert not hasattr(loaded.network.model, "encoder")
    with pytest.raises(WeightsError, match="is no mBART"):
        load_decoder(locate(Path(__file__).parent), toys.DIM)


def test_at_its_published_size_it_has_as_many_parameters_as_the_published_model() -> None:
    """547,163,590 with the tower of ViT-B/32: vocabulary, decoder, projection, bias of the logits, nothing else."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    with torch.device("meta"):
        modules = [build(Sizes(250054, 768).config(), 768), CLIPVisionModel(CLIPVisionConfig())]
    assert sum(p.numel() for module in modules for p in module.parameters()) == 547_163_590


def test_the_bias_of_the_logits_is_trained_as_it_was_in_flax() -> None:
    network, _ = toys.network(40)
    names = [name for name, _ in network.named_parameters()]
    assert "final_logits_bias" in names
    ids = torch.randint(4, 40, (2, 5))
    caption_logits(network, seen(network, 2), None, ids).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for _, p in network.named_parameters())


@pytest.mark.parametrize("start", ["pad", "eos"])
def test_greedy_captions_are_the_best_tokens_one_by_one(start: Any) -> None:
    """With the whole prefix read anew for every token: nothing depends on what the library keeps between steps."""
    network, _ = toys.network(40)
    what = seen(network)
    ids = torch.tensor([[{"pad": 1, "eos": 2}[start], 30]] * 3)
    with torch.no_grad():
        while ids.shape[1] < 11:
            best = caption_logits(network, what, None, ids)[:, -1].argmax(dim=1)
            best[(ids[:, 2:] == 2).any(dim=1)] = 1
            ids = torch.cat([ids, best[:, None]], dim=1)
    last = torch.where((ids[:, 2:] == 2).any(dim=1), 1, 2)  # the end is forced at the last place
    wanted = torch.cat([ids, last[:, None]], dim=1)
    found = write(network, what, everything(what), 30, Search(beams=1, max_length=12, start=start)).ids
    assert found.tolist() == wanted[:, : found.shape[1]].tolist()
    assert (wanted[:, found.shape[1] :] == 1).all()


def test_the_score_of_a_beam_is_the_mean_log_probability_of_its_tokens_and_more_beams_find_better_ones() -> None:
    network, _ = toys.network(40)
    what = seen(network)

    def score(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = caption_logits(network, what, None, ids[:, :-1]).log_softmax(dim=2)
        each = logits.gather(2, ids[:, 1:, None])[:, 1:-1, 0]  # language and end are forced: they cost nothing
        return each.sum(dim=1) / (ids.shape[1] - 1)

    mean = {}
    for beams in (1, 6):
        how = Search(beams=beams, max_length=6)
        found = write(network, what, everything(what), 30, how)
        assert found.ids.shape[1] == 6, "the toy ends no caption early, so all are of one length"
        assert not (found.ids[:, 2:5] == 2).any()
        mean[beams] = score(found.ids)
        if found.scores is not None:
            assert (found.scores - mean[beams]).abs().max() < 1e-5
    assert (mean[6] >= mean[1] - 1e-6).all()
    assert (mean[6] > mean[1]).any()


def test_padding_is_not_looked_at_and_a_batch_changes_nothing() -> None:
    network, _ = toys.network(40)
    what = seen(network)
    longer = torch.cat([what, torch.full((3, 2, what.shape[2]), 9.0)], dim=1)
    mask = torch.cat([everything(what), torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    how = Search(beams=3, max_length=10)
    together = write(network, what, everything(what), 30, how).ids.tolist()
    assert write(network, longer, mask, 30, how).ids.tolist() == together
    alone = [write(network, what[i : i + 1], everything(what[i : i + 1]), 30, how).ids[0].tolist() for i in range(3)]
    assert [row + [1] * (len(together[0]) - len(row)) for row in alone] == together


def test_the_loss_is_a_mean_over_real_tokens_and_smoothing_takes_the_entropy_off() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 6), torch.tensor([[4, 3, 2, 1], [5, 2, 1, 1]])
    real = labels != 1
    each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    assert torch.allclose(caption_loss(logits, labels, real), each[real].mean())
    target = torch.full((2, 4, 6), 0.1 / 5).scatter(2, labels[:, :, None], 0.9)
    divergence = (target * (target.log() - logits.log_softmax(dim=2))).sum(dim=2)
    assert torch.allclose(caption_loss(logits, labels, real, 0.1), divergence[real].mean())
    assert shifted(labels, 7).tolist() == [[7, 4, 3, 2], [7, 5, 2, 1]]


def test_records_of_a_store_are_captioned_in_the_language_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    model = ClipVisionMbart.load(locate(folder))
    with open_store(toys.make_store(tmp_path / "s")) as store:
        records = store.get_batch(["p0", "p4", "p5"])
    found = model.caption(records, "fr", beams=1, max_length=9)
    assert len(found) == 3
    assert found == model.caption(records, "fr_XX", beams=1, max_length=9)
    what = encoded(model.network, records.features)
    ids = write(model.network, what, records.mask, model.tokens.code("fr"), Search(beams=1, max_length=9)).ids
    assert found == model.tokens.decode(ids.tolist())
    assert (ids[:, 1] == model.tokens.backend.token_to_id("fr_XX")).all()
    with pytest.raises(UsageError, match="no language 'de'"):
        model.caption(records, "de")
    with pytest.raises(UsageError, match="no language 'xx'"):
        model.caption(records, "xx")
    with pytest.raises(UsageError, match=r"max_length is 5000, the model has room for \d+"):
        model.caption(records, "fr", max_length=5000)


def test_a_batch_of_pictures_without_rows_is_described_as_one_blind_row(folder: Path, tmp_path: Path) -> None:
    model = ClipVisionMbart.load(locate(folder))
    with open_store(toys.make_store(tmp_path / "s")) as store:
        records = store.get_batch(["p0", "p4"])
    bare = replace(records, features=records.features[:, :0], boxes=records.boxes[:, :0], mask=records.mask[:, :0])
    one = replace(bare, features=torch.zeros(2, 1, toys.DIM), boxes=torch.zeros(2, 1, 4), mask=torch.ones(2, 1).bool())
    assert model.caption(bare, "fr", beams=1, max_length=9) == model.caption(one, "fr", beams=1, max_length=9)


def test_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    toys.vocabulary(45).save(other)
    with pytest.raises(WeightsError, match="the vocabulary has"):
        ClipVisionMbart.load(locate(folder), tokenizer=other)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer.json and no sentencepiece"):
        ClipVisionMbart.load(locate(folder))
