"""``clip_vision_bert/`` (gchhablani/multilingual-vqa): every depth of both heads, read from flax's own files."""

from __future__ import annotations

import json
from typing import Any

import torch

from featx.checkpoint.place import locate
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of, without_tower
from featx.clip_bert.losses import answer_loss, word_loss
from featx.clip_bert.network import ClipBert
from featx.clip_bert.weights import load_network
from featx_extractors.towers.loading import build, read_checkpoint
from tests.parity.clip_vision_mbart import keep, torch_name
from tests.parity.folder import Folder
from tests.parity.lxmert import Case, Tensors, tensors
from tests.parity.table import Table

PEER = "clip_vision_bert"


@torch.no_grad()
def compare(folder: Folder, table: Table) -> None:
    """Answers, then masked words, about the same pictures."""
    pixels = folder.arrays("vqa/inputs.npz").tensor("pixel_values").permute(0, 3, 1, 2)
    for label in ("vqa", "mlm"):
        loaded = load_network(locate(folder.path / label))
        case, inputs = Case(table, PEER, label, folder.arrays(f"{label}/outputs.npz")), _inputs(folder, label)
        compare_names(folder, label, table, loaded.network, loaded.tower)
        batch = batch_of(case, inputs, compare_tower(folder, label, case, pixels))
        compare_states(case, loaded.network, batch)
        logits = loaded.network.answer_logits(batch) if label == "vqa" else loaded.network.word_logits(batch)
        loss = answer_loss if label == "vqa" else word_loss
        case.close("logits", logits)
        case.close("loss", loss(logits, inputs["labels"]))


def _inputs(folder: Folder, label: str) -> Tensors:
    found = tensors(folder.arrays(f"{label}/inputs.npz"))
    found.pop("pixel_values", None)
    return found


def compare_names(folder: Folder, label: str, table: Table, network: ClipBert, tower: str | None) -> None:
    """Every parameter of the flax file is read, in torch's axes, into a parameter of that name, or into the tower."""
    stated = {
        torch_name(n): e for n, e in json.loads((folder.path / label / "parameter_shapes.json").read_text()).items()
    }
    found = read_tensors(folder.path / label / "flax_model.msgpack")
    table.equal(PEER, f"{label} names", sorted(stated) == sorted(found), True)
    sums = [float(found[name].double().sum()) for name in stated]
    table.relative(PEER, f"{label} sums", sums, [entry["sum"] for entry in stated.values()], 1e-6)
    firsts = [float(found[name].flatten()[0]) for name in stated]
    table.close(PEER, f"{label} first values", firsts, [entry["first"] for entry in stated.values()], 0.0)
    own, left = network.state_dict(), without_tower(found)
    table.equal(PEER, f"{label} names of the network", sorted(own) == sorted(left), True)
    table.equal(PEER, f"{label} values", [bool((own[n] == left[n]).all()) for n in own], [True] * len(own))
    table.equal(PEER, f"{label} hash of the tower", tower == tower_hash(tower_of(found)), True)


def compare_tower(folder: Folder, label: str, case: Case, pixels: torch.Tensor) -> torch.Tensor:
    """The vision tower of the file, as the extractor loads it; ``last_hidden_state`` of the pictures."""
    config, found = read_checkpoint(locate(folder.path / label), label)
    tower = build(config, found, {}, label)
    network: Any = tower.network
    modules = {"vision_embeddings": network.embeddings, "vision_pre_layernorm": network.pre_layrnorm}
    modules |= {f"vision_layer_{i}": layer for i, layer in enumerate(network.encoder.layers)}
    seen: Tensors = {}
    handles = [module.register_forward_hook(keep(seen, name)) for name, module in modules.items()]
    features = tower(pixels, [tower.choice("last_hidden_state")])["last_hidden_state"].clone()
    for handle in handles:
        handle.remove()
    for name, got in {**seen, "vision_last_hidden_state": features}.items():
        case.close(name, got)
    return features


def batch_of(case: Case, inputs: Tensors, features: torch.Tensor) -> Tensors:
    """What the network is given; what the original spells out is what ours does by itself."""
    table, tokens, words = case.table, features.shape[1], inputs["input_ids"]
    table.equal(PEER, f"{case.label} types", inputs["token_type_ids"], torch.zeros_like(words))
    table.equal(PEER, f"{case.label} places", inputs["position_ids"], torch.arange(words.shape[1]).expand_as(words))
    table.equal(
        PEER, f"{case.label} visual types", inputs["visual_token_type_ids"], torch.ones(len(words), tokens).long()
    )
    places = torch.full((len(words), tokens), tokens)
    table.equal(PEER, f"{case.label} visual places", inputs["visual_position_ids"], places)
    given = {"input_ids": words, "attention_mask": inputs["attention_mask"], "features": features}
    return {**given, "image_mask": inputs["visual_attention_mask"].bool()}


def compare_states(case: Case, network: ClipBert, batch: Tensors) -> None:
    """The picture's tokens, the whole sequence, every layer, the pooler."""
    found = network.model(batch, output_hidden_states=True)
    case.close("visual_projection", network.model.embeddings.visual_projection(batch["features"]))
    case.close("embeddings", found.hidden_states[0])
    case.close("hidden_states", torch.stack(found.hidden_states))
    if hasattr(network.model, "pooler"):
        case.close("pooled", network.model.pooler(found.last_hidden_state))
