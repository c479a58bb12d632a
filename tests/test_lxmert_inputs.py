"""From a store to logits: boxes, masks and features reach the network as transformers itself would be given them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featx.lxmert.inputs import normalise_boxes, regions
from featx.lxmert.network import Sizes, answer_logits, attended, new_answering
from featx.store import open_store
from featx.tasks.whiten import whiten
from tests import lxmert_toys as toys

IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 7, 11, 3, 0], [2, 20, 3, 0, 0]])
MASK = (IDS > 0).long()


def test_every_box_is_divided_by_the_size_of_its_own_picture() -> None:
    boxes = torch.tensor([[[10.0, 20, 30, 40]], [[10.0, 20, 30, 40]]])
    sizes = torch.tensor([[40.0, 100], [80, 60]])  # height, width
    found = normalise_boxes(boxes, sizes)
    assert found[0, 0].tolist() == pytest.approx([0.1, 0.5, 0.3, 1.0])
    assert found[1, 0].tolist() == pytest.approx([10 / 60, 0.25, 0.5, 0.5])


def test_boxes_of_one_direction_look_different_to_a_spread_network() -> None:
    """A box and one twice as far and twice as large are multiples of each other, which a LayerNorm does not see."""
    near, far = torch.tensor([[[0.1, 0.1, 0.2, 0.2]]]), torch.tensor([[[0.4, 0.4, 0.8, 0.8]]])
    features, gaps = torch.ones(1, 1, 16), {}
    for std in (None, 1.0):
        torch.manual_seed(0)
        network = new_answering(Sizes(30, 16, 32, 48, 4, (1, 1, 1), dropout=0.0, init_std=0.05, box_std=std), 3)
        see = network.lxmert.encoder.visn_fc
        with torch.no_grad():
            a, b = see(features, near), see(features, far)
        gaps[std] = ((a - b).norm() / a.norm()).item()
    assert gaps[None] < 1e-3
    assert gaps[1.0] > 0.1


def test_a_whitened_network_sees_strong_and_weak_directions_alike() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    spread = np.array([100.0, 10, 3, 1, 0.3, 0.1] + [1e-3] * 10)  # deviation along each column of ``turn``
    features = torch.from_numpy(rng.normal(size=(4000, 16)) * spread @ turn.T + 5).float()
    torch.manual_seed(0)
    network = new_answering(Sizes(30, 16, 512, 48, 4, (1, 1, 1)), 3)
    layer = network.lxmert.encoder.visn_fc.visn_fc

    def strengths() -> np.ndarray:
        """How far one deviation along each direction moves the output."""
        return np.linalg.norm(layer.weight.detach().double().numpy() @ turn, axis=0) * spread

    before = strengths()
    assert before[0] > 500 * before[5]
    whiten(layer, features, 6)
    after = strengths()
    assert after[:6].max() < 1.2 * after[:6].min()
    assert after[6:].max() < 0.01 * after[:6].min()
    with torch.no_grad():
        assert layer(features).mean(dim=0).abs().max() < 1e-3 * layer(features).std()


def test_logits_from_a_store_are_those_of_transformers_on_the_same_numbers(tmp_path: Path) -> None:
    network, keys = toys.answering(), ["p0", "p2", "p4"]
    with open_store(toys.make_store(tmp_path / "s")) as store:
        batch = {"input_ids": IDS, "attention_mask": MASK, **regions(store.get_batch(keys))}
    records = [toys.record(int(key[1])) for key in keys]
    scale = np.float32([[r.size[1], r.size[0], r.size[1], r.size[0]] for r in records])[:, None]
    with torch.no_grad():
        wanted = network(
            input_ids=IDS, attention_mask=MASK, token_type_ids=torch.zeros_like(IDS),
            visual_feats=torch.from_numpy(np.stack([r.features for r in records])),
            visual_pos=torch.from_numpy(np.stack([r.boxes for r in records]) / scale),
        ).question_answering_score  # fmt: skip
        found = answer_logits(network, batch)
    assert torch.equal(found, wanted)


def test_padded_regions_change_nothing(tmp_path: Path) -> None:
    network = toys.answering()
    with open_store(toys.make_store(tmp_path / "s")) as store:
        full, padded = store["p0"], store["p1"]
        both = {"input_ids": IDS[:2], "attention_mask": MASK[:2], **regions(store.get_batch(["p0", "p1"]))}
    assert (len(full), len(padded)) == (6, 5)
    alone = torch.from_numpy(padded.features[None, :5].copy())
    scale = torch.tensor([padded.size[1], padded.size[0]] * 2)
    with torch.no_grad():
        wanted = network(
            input_ids=IDS[1:2], attention_mask=MASK[1:2], token_type_ids=torch.zeros_like(IDS[1:2]), visual_feats=alone,
            visual_pos=torch.from_numpy(padded.boxes[None, :5].copy()) / scale,
        ).question_answering_score  # fmt: skip
        found = answer_logits(network, both)[1:]
        wrong = answer_logits(network, {**both, "visual_attention_mask": torch.ones(2, 6)})[1:]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(wrong, wanted, atol=1e-2)  # without the mask it would


def test_padded_words_change_nothing() -> None:
    network = toys.answering()
    batch = {"visual_feats": torch.rand(1, 4, 16), "visual_pos": torch.rand(1, 4, 4)}
    short, long = torch.tensor([[2, 9, 3]]), torch.tensor([[2, 9, 3, 0, 0, 0]])
    with torch.no_grad():
        a = answer_logits(network, {**batch, "input_ids": short, "attention_mask": torch.ones_like(short)})
        b = answer_logits(network, {**batch, "input_ids": long, "attention_mask": (long > 0).long()})
    assert torch.allclose(a, b, atol=1e-5)


def test_a_region_weighs_as_much_as_the_word_that_looks_at_it_most_over_all_layers_and_heads(tmp_path: Path) -> None:
    network, seen = toys.answering(), []
    layers = network.lxmert.encoder.x_layers
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, args: seen.append((args[0], args[2])))
    with open_store(toys.make_store(tmp_path / "s")) as store:
        batch = {"input_ids": IDS[:2], "attention_mask": MASK[:2], **regions(store.get_batch(["p0", "p1"]))}
    logits, weights = attended(network, batch)
    with torch.no_grad():
        looks = torch.zeros(2, 5, 6)
        for layer, (words, seen_regions) in zip(layers, seen, strict=True):
            attention = layer.visual_attention.att
            for head in range(4):
                rows = slice(8 * head, 8 * head + 8)
                query = (words @ attention.query.weight.T + attention.query.bias)[..., rows]
                keys = (seen_regions @ attention.key.weight.T + attention.key.bias)[..., rows]
                scores = query @ keys.transpose(1, 2) / 8**0.5
                scores[1, :, 5] = -torch.inf  # the padding of p1
                looks += scores.softmax(dim=2) / (4 * len(layers))
        assert torch.equal(logits, answer_logits(network, batch))
    most = torch.stack([looks[0].amax(dim=0), looks[1, :4].amax(dim=0)])  # the second question has four words
    assert torch.allclose(weights, most / most.sum(dim=1, keepdim=True), atol=1e-5)
    assert weights[1, 5] == 0


def test_a_picture_without_regions_is_one_of_zeros_whether_it_is_alone_or_among_others(tmp_path: Path) -> None:
    network = toys.answering()
    with open_store(toys.make_store(tmp_path / "s", {"p": toys.record(0), "empty": toys.record(1, 0)})) as store:
        both, alone = store.get_batch(["p", "empty"]), store.get_batch(["empty"])
    none = replace(alone, features=alone.features[:, :0], boxes=alone.boxes[:, :0], mask=alone.mask[:, :0])
    blank = {"visual_feats": torch.zeros(1, 1, toys.DIM), "visual_pos": torch.zeros(1, 1, 4)}
    with torch.no_grad():
        wanted = answer_logits(network, {"input_ids": IDS[:1], "attention_mask": MASK[:1], **blank})
        padded = answer_logits(network, {"input_ids": IDS[[0, 0]], "attention_mask": MASK[[0, 0]], **regions(both)})
        single = answer_logits(network, {"input_ids": IDS[:1], "attention_mask": MASK[:1], **regions(none)})
    assert torch.allclose(padded[1:], wanted, atol=1e-5)
    assert torch.allclose(single, wanted, atol=1e-5)
