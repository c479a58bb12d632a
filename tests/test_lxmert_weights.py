"""Weights of every origin into transformers' network: all of them, under the right names, or a sentence about it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featx.checkpoint.place import locate
from featx.data import AnswerSpace
from featx.errors import WeightsError
from featx.lxmert.folder import load_tokens
from featx.lxmert.names import original_name, rename, transformers_name
from featx.lxmert.network import load_network, with_answers
from featx.lxmert.weights import DECODER, WORDS
from featx.text.wordpiece import Tokens
from tests import lxmert_toys as toys


def state(network: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if name != DECODER}


def equal(a: Any, b: Any) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("module.bert.pooler.dense.bias", "lxmert.pooler.dense.bias"),
        ("bert.encoder.x_layers.0.visual_attention.att.key.weight",
         "lxmert.encoder.x_layers.0.visual_attention.att.key.weight"),
        ("lxrt_encoder.model.bert.encoder.layer.1.output.dense.bias", "lxmert.encoder.layer.1.output.dense.bias"),
        ("module.lxrt_encoder.model.bert.pooler.dense.bias", "lxmert.pooler.dense.bias"),
        ("lxrt_encoder.model.module.bert.pooler.dense.bias", "lxmert.pooler.dense.bias"),
        ("logit_fc.3.weight", "answer_head.logit_fc.3.weight"),
        ("module.answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.weight"),
        ("module.cls.predictions.bias", "cls.predictions.bias"),
        ("obj_predict_head.decoder_dict.obj.bias", "obj_predict_head.decoder_dict.obj.bias"),
        ("lxmert.pooler.dense.bias", "lxmert.pooler.dense.bias"),
        ("encoder.visn_fc.box_fc.bias", "lxmert.encoder.visn_fc.box_fc.bias"),
    ],
)  # fmt: skip
def test_an_original_name_becomes_that_of_transformers(original: str, name: str) -> None:
    assert transformers_name(original) == name


@pytest.mark.parametrize("layout", ["pretrain", "answer"])
def test_names_survive_the_way_there_and_back(layout: Any) -> None:
    network = toys.pretraining() if layout == "pretrain" else toys.answering()
    names = list(network.state_dict())
    there = [original_name(name, layout) for name in names]
    assert len(set(there)) == len(names)
    assert not any(name.startswith("lxmert.") for name in there)
    assert [transformers_name(name) for name in there] == names


def test_two_names_that_become_one_are_an_error() -> None:
    with pytest.raises(WeightsError, match=r"lxmert\.pooler\.dense\.bias twice"):
        rename({"bert.pooler.dense.bias": 1, "lxmert.pooler.dense.bias": 2}, "x.pth")


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["pretrain", "answer"])
def test_an_original_pth_loads_into_the_same_network(tmp_path: Path, layout: Any) -> None:
    network = toys.pretraining() if layout == "pretrain" else toys.answering()
    torch.save({original_name(n, layout): t for n, t in network.state_dict().items()}, tmp_path / "x.pth")
    assert equal(load_network(locate(tmp_path / "x.pth"), heads=4), network)


def test_a_pth_of_several_gpus_loads_into_the_same_network(tmp_path: Path) -> None:
    """There the encoder is wrapped, and the answer head beside it is not."""
    network, found = toys.answering(), {}
    for name, tensor in network.state_dict().items():
        trunk = "lxrt_encoder.model.module.bert." + name.removeprefix("lxmert.")
        found[trunk if name.startswith("lxmert.") else name.removeprefix("answer_head.")] = tensor
    torch.save(found, tmp_path / "x.pth")
    assert equal(load_network(locate(tmp_path / "x.pth"), heads=4), network)


def test_what_transformers_saves_loads_into_the_same_network(tmp_path: Path) -> None:
    for network in (toys.answering(), toys.pretraining(), toys.answering().lxmert):
        folder = tmp_path / type(network).__name__
        network.save_pretrained(folder)
        loaded = load_network(locate(folder))
        assert type(loaded) is type(network)
        assert equal(loaded, network)
        assert not loaded.training


def test_the_tied_decoder_stays_tied(tmp_path: Path) -> None:
    toys.pretraining().save_pretrained(tmp_path)
    loaded = load_network(locate(tmp_path))
    assert loaded.cls.predictions.decoder.weight is loaded.lxmert.embeddings.word_embeddings.weight


def test_float16_weights_are_read_as_float32(tmp_path: Path) -> None:
    network = toys.answering()
    save_file({name: tensor.half() for name, tensor in state(network).items()}, tmp_path / "x.safetensors")
    loaded = load_network(locate(tmp_path), heads=4)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.lxmert.pooler.dense.weight, network.lxmert.pooler.dense.weight.half().float())


def test_sizes_come_from_the_shapes_alone(tmp_path: Path) -> None:
    network = toys.pretraining(hidden_size=128, num_attention_heads=2, r_layers=3, x_layers=1, num_attr_labels=7)
    save_file(state(network), tmp_path / "x.safetensors")
    found, wanted = load_network(locate(tmp_path)).config.to_dict(), network.config.to_dict()
    unknown = {"initializer_range", "visual_loss_normalizer", "architectures", "dtype", "transformers_version"}
    assert {k: v for k, v in found.items() if k not in unknown} == {k: v for k, v in wanted.items() if k not in unknown}
    assert found["num_attention_heads"] == 2  # one per 64


def test_a_network_without_some_heads_is_made_without_them(tmp_path: Path) -> None:
    network = toys.pretraining(visual_attr_loss=False, task_qa=False)
    save_file(state(network), tmp_path / "x.safetensors")
    assert equal(load_network(locate(tmp_path), heads=4), network)


def test_an_unknown_number_of_heads_is_asked_for(tmp_path: Path) -> None:
    save_file(state(toys.answering()), tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="heads"):
        load_network(locate(tmp_path))


# --- strictness -----------------------------------------------------------------------------------------


def refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> str:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError) as error:
        load_network(locate(tmp_path / "x.safetensors"), heads=4)
    return error.value.message


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = state(toys.answering())
    del tensors["lxmert.pooler.dense.bias"]
    assert "lacks lxmert.pooler.dense.bias" in refused(tmp_path, tensors)


def test_a_superfluous_tensor_is_named(tmp_path: Path) -> None:
    tensors = state(toys.answering()) | {"lxmert.extra.weight": torch.zeros(2)}
    assert "the network has not, lxmert.extra.weight" in refused(tmp_path, tensors)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = state(toys.answering())
    tensors["lxmert.encoder.r_layers.1.attention.self.key.weight"] = torch.zeros(3, 3)
    assert "shape lxmert.encoder.r_layers.1.attention.self.key.weight" in refused(tmp_path, tensors)


def test_weights_of_something_else_are_called_that(tmp_path: Path) -> None:
    said = refused(tmp_path, {"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)})
    assert "is no LXMERT: it has no lxmert.embeddings.word_embeddings.weight, its tensors are conv1.weight, fc" in said


def test_many_faults_are_counted(tmp_path: Path) -> None:
    tensors = {n: t for n, t in state(toys.answering()).items() if "x_layers.0" not in n}
    assert re.search(r"lacks .* and \d+ more", refused(tmp_path, tensors))


def test_a_decoder_that_is_not_tied_is_refused(tmp_path: Path) -> None:
    tensors = state(toys.pretraining())
    save_file(tensors | {DECODER: tensors[WORDS].clone()}, tmp_path / "good.safetensors")
    load_network(locate(tmp_path / "good.safetensors"), heads=4)
    assert "tied" in refused(tmp_path, tensors | {DECODER: tensors[WORDS] + 1})


def test_a_config_of_another_model_is_refused(tmp_path: Path) -> None:
    toys.answering().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"visual_feat_dim": 16', '"visual_feat_dim": 2048'))
    with pytest.raises(WeightsError, match="visual_feat_dim 2048, its tensors say 16"):
        load_network(locate(tmp_path))


class Trap:
    """Would run a command when unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("content", [Trap(), {"a": 3}, [1, 2]])
def test_a_pickle_of_more_than_tensors_is_refused_and_not_executed(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth"):
        load_network(locate(tmp_path / "x.pth"))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", pickle.dumps({"a": 1})])
def test_a_file_that_holds_no_weights_is_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        load_network(locate(tmp_path / name))


# --- places ---------------------------------------------------------------------------------------------


def test_a_place_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no model"):
        locate(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_network(locate(tmp_path))


def test_a_folder_with_two_weights_is_a_question(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"2 weights files: a\.pth, b\.pth"):
        locate(tmp_path)


def test_a_hub_id_may_have_no_organisation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub, asked = pytest.importorskip("huggingface_hub"), []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **more: asked.append(name) or str(tmp_path))
    for name in ("bert-base-uncased", "bert-base-uncased@main", "google-bert/bert-base-uncased"):
        assert locate(name, weights=False).folder == tmp_path
    assert asked == ["bert-base-uncased", "bert-base-uncased", "google-bert/bert-base-uncased"]
    for name in ("a/b/c", "weights.pth", "org/weights.safetensors", "two words"):
        with pytest.raises(WeightsError, match="there is no model"):
            locate(name)


def test_a_hub_id_that_cannot_be_reached_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="no model some-org/some-model here, and as a hub id") as error:
        locate("some-org/some-model")
    assert "local copy" in error.value.hint


def test_a_hub_id_becomes_the_folder_the_hub_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    network, asked = toys.answering(), []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        if "pytorch_model.bin" in allow_patterns:
            torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
            network.config.save_pretrained(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert equal(load_network(locate("org/name@v1")), network)
    assert asked == [("org/name", "v1")] * 2  # safetensors first, then the older form


def test_a_vocabulary_is_fetched_without_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub, asked = pytest.importorskip("huggingface_hub"), []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        Tokens.train(["a word"], 20).save(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert len(load_tokens(None, "org/bert", 20)) > 5
    assert "vocab.txt" in asked
    assert not [name for name in asked if name.endswith((".bin", ".safetensors"))]


# --- another list of answers ----------------------------------------------------------------------------


def test_a_transferred_head_keeps_the_rows_of_known_answers_and_zeroes_the_others() -> None:
    old, new = AnswerSpace(["yes", "man", "2", "gray"]), AnswerSpace(["Two", "purple", "the man", "grey", "Yes."])
    source = toys.pretraining(num_qa_labels=4)
    before = {name: tensor.clone() for name, tensor in source.answer_head.state_dict().items()}
    network, known = with_answers(source, old, new)
    head = network.answer_head.state_dict()
    for name in ("logit_fc.0.weight", "logit_fc.0.bias", "logit_fc.2.weight", "logit_fc.2.bias"):
        assert torch.equal(head[name], before[name])
    for row, from_row in enumerate([2, None, 1, 3, 0]):  # by hand: one leading article, numbers, grey, one period
        for part in ("weight", "bias"):
            wanted = torch.zeros_like(before[f"logit_fc.3.{part}"][0])
            wanted = wanted if from_row is None else before[f"logit_fc.3.{part}"][from_row]
            assert torch.equal(head[f"logit_fc.3.{part}"][row], wanted)
    assert known == 4
    assert network.config.num_qa_labels == 5
    assert network.lxmert is source.lxmert


def test_the_same_list_keeps_the_whole_head() -> None:
    answers = AnswerSpace(["a man", "the man", "one", "1"])  # in another form these would collapse
    source = toys.answering()
    network, known = with_answers(source, answers, answers)
    assert known == 4
    assert equal(network.answer_head, source.answer_head)


def test_an_answer_that_is_in_both_lists_keeps_its_row_whatever_it_would_be_converted_to() -> None:
    old = AnswerSpace(["gray", "grey", "the who", "one", "1"])
    source = toys.answering(num_qa_labels=5)
    rows = source.answer_head.logit_fc[3].weight.clone()
    network, known = with_answers(source, old, AnswerSpace([*old, "new", "The Gray."]))
    wanted = torch.cat([rows, torch.zeros(1, rows.shape[1]), rows[:1]])
    assert torch.equal(network.answer_head.logit_fc[3].weight, wanted)
    assert known == 6


def test_a_trunk_without_a_head_gets_a_fresh_one() -> None:
    network, known = with_answers(toys.answering().lxmert, None, AnswerSpace(["a", "b"]))
    assert known == 0
    assert network.answer_head.logit_fc[3].weight.shape == (2, 64)
    assert network.answer_head.logit_fc[0].weight.std().item() == pytest.approx(0.3, rel=0.2)  # initializer_range
    assert not any(p.is_meta for p in network.parameters())


def test_a_list_of_other_length_than_the_head_is_refused() -> None:
    with pytest.raises(WeightsError, match="4 answers, their list has 2"):
        with_answers(toys.answering(), AnswerSpace(["a", "b"]), AnswerSpace(["a"]))
