"""``lxmert/`` (airsplay/lxmert) and ``hf_lxmert/`` (transformers): names, every depth, every head, every loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from featx.checkpoint.place import locate
from featx.data import AnswerSpace, convert_answer
from featx.lxmert.folder import load_tokens
from featx.lxmert.heads import pretraining_losses, pretraining_scores
from featx.lxmert.inputs import arguments
from featx.lxmert.losses import IGNORED, bce_soft, ce, mce
from featx.lxmert.names import original_name, rename
from featx.lxmert.network import answer_logits, load_network, network_of, with_answers
from tests.parity.folder import Arrays, Folder
from tests.parity.table import Table

RELATIVE = 1e-4  # of the largest value, as the README of the references asks
LOSSES = ("words", "matched", "objects", "attributes", "features", "answers")  # the order of the original
Tensors = dict[str, torch.Tensor]


def compare_lxmert(folder: Folder, table: Table) -> None:
    """The original, read from its own snapshots."""
    network = load_network(locate(folder.path / "vqa/BEST.safetensors"))
    Names(folder, table, "vqa/BEST.safetensors").compare(network, "answer")
    batch = compare_vqa(folder, table, network)
    compare_gqa(folder, table, batch)
    compare_nlvr2(folder, table, network, batch)
    compare_words(folder, table)
    compare_original_pretraining(folder, table)
    compare_answers(folder, table)


def compare_hf(folder: Folder, table: Table) -> None:
    """transformers, read strictly by us."""
    inputs = tensors(folder.arrays("qa/inputs.npz"))
    labels, visual_mask = inputs.pop("labels"), inputs.pop("visual_attention_mask")
    network = load_network(locate(folder.path / "qa"))
    Names(folder, table, "qa/model.safetensors").compare(network, None)
    case = Case(table, "hf_lxmert", "qa", folder.arrays("qa/outputs.npz"))
    logits = case.depths(network, inputs, "pooled_output")
    case.close("question_answering_score", logits)
    case.close("loss", ce(logits, nn.functional.one_hot(labels, logits.shape[1]).float()))
    masked = answer_logits(network, {**inputs, "visual_attention_mask": visual_mask})
    case.close("question_answering_score_visual_mask", masked)
    compare_hf_pretraining(folder, table, inputs)


def tensors(arrays: Arrays) -> Tensors:
    """All arrays of a file; float16 ones as float32, which they went in as."""
    found = {name: arrays.tensor(name) for name in arrays}
    return {name: t.float() if t.is_floating_point() else t for name, t in found.items()}


class Case:
    """One network on one batch, compared depth by depth."""

    def __init__(self, table: Table, peer: str, label: str, wanted: Arrays) -> None:
        self.table, self.peer, self.label, self.wanted = table, peer, label, wanted

    def close(self, name: str, got: torch.Tensor) -> None:
        want = self.wanted[name]
        self.table.close(self.peer, f"{self.label} {name}", got.reshape(want.shape), want, limit(want))

    def depths(self, network: Any, batch: Mapping[str, torch.Tensor], pooled: str) -> torch.Tensor:
        """Run the network and compare what its modules return; the answer logits, if it has that head."""
        seen: Tensors = {}
        handles = [module.register_forward_hook(keep(seen, name)) for name, module in modules(network, pooled).items()]
        with torch.no_grad():
            logits: torch.Tensor = network(**arguments(batch)).question_answering_score
        for handle in handles:
            handle.remove()
        for name, got in seen.items():
            self.close(name, got)
        return logits


def limit(want: Any) -> float:
    return RELATIVE * max(1.0, float(abs(want).max()))


def modules(network: Any, pooled: str) -> dict[str, nn.Module]:
    """Name in the references -> module."""
    trunk, encoder = network.lxmert, network.lxmert.encoder
    found = {"text_embeddings": trunk.embeddings, "visual_embeddings": encoder.visn_fc, pooled: trunk.pooler}
    for name, layers in (("language_layer", encoder.layer), ("vision_layer", encoder.r_layers)):
        found |= {f"{name}_{i}": layer for i, layer in enumerate(layers)}
    return found | {f"cross_layer_{i}": layer for i, layer in enumerate(encoder.x_layers)}


def keep(seen: Tensors, name: str) -> Any:
    def hook(module: nn.Module, given: Any, out: Any) -> None:
        if name.startswith("cross_layer"):
            seen[f"{name}_language"], seen[f"{name}_vision"] = out[:2]
        else:
            seen[name] = out if isinstance(out, torch.Tensor) else out[0]

    return hook


class Names:
    """Every tensor of a file is in the network, under the name that is ours for it, and no other is."""

    def __init__(self, folder: Folder, table: Table, file: str) -> None:
        self.folder, self.table, self.file = folder, table, file

    def compare(self, network: Any, layout: Any) -> None:
        arrays, own = self.folder.arrays(self.file), network.state_dict()
        held = {original_name(n, layout) if layout else n: t for n, t in own.items()}
        if layout is None:
            held.pop("cls.predictions.decoder.weight", None)
        same = [name in held and bool((held[name] == arrays.tensor(name)).all()) for name in arrays]
        self.table.equal(self.folder.name, f"{self.file} names", sorted(held) == sorted(arrays), True)
        self.table.equal(self.folder.name, f"{self.file} values", same, [True] * len(arrays))


def compare_vqa(folder: Folder, table: Table, network: Any) -> Tensors:
    """VQAModel; the batch without its target is used again for GQA and NLVR2."""
    batch, wanted = tensors(folder.arrays("vqa/inputs.npz")), folder.arrays("vqa/outputs.npz")
    target, visual_mask = batch.pop("target"), batch.pop("visual_attention_mask")
    case = Case(table, "lxmert", "vqa", wanted)
    table.equal("lxmert", "vqa token types", batch.pop("token_type_ids"), torch.zeros_like(batch["input_ids"]))
    logits = case.depths(network, batch, "pooled")
    case.close("logits", logits)
    case.close("loss", bce_soft(logits, target))
    with torch.no_grad():
        case.close("logits_with_visual_mask", answer_logits(network, {**batch, "visual_attention_mask": visual_mask}))
    return batch


def trunk_and_head(folder: Folder, head: str) -> Tensors:
    """A snapshot put together of VQA's trunk and another head, under transformers' names."""
    found = tensors(folder.arrays("vqa/BEST.safetensors"))
    trunk = {name: t for name, t in found.items() if not name.startswith("logit_fc.")}
    return rename({**trunk, **tensors(folder.arrays(head))}, head)


def compare_gqa(folder: Folder, table: Table, batch: Tensors) -> None:
    """GQAModel, and its two losses."""
    stated = json.loads((folder.path / "vqa/config.json").read_text())
    network = network_of(trunk_and_head(folder, "gqa/head.safetensors"), stated, "gqa")
    case = Case(table, "lxmert", "gqa", folder.arrays("gqa/outputs.npz"))
    target = case.wanted.tensor("target")
    with torch.no_grad():
        logits = answer_logits(network, batch)
    case.close("logits", logits)
    case.close("bce_loss", bce_soft(logits, target))
    case.close("mce_loss", mce(logits, target))


def compare_nlvr2(folder: Folder, table: Table, network: Any, batch: Tensors) -> None:
    """NLVR2Model: both pictures with the first sentence, their pooled vectors side by side, a head of the same make."""
    case = Case(table, "lxmert", "nlvr2", folder.arrays("nlvr2/outputs.npz"))
    head = tensors(folder.arrays("nlvr2/head.safetensors"))
    rows, width = head["logit_fc.0.weight"].shape
    layers = nn.Sequential(nn.Linear(width, rows), nn.GELU(), nn.LayerNorm(rows, eps=1e-12), nn.Linear(rows, 2))
    layers.load_state_dict({name.removeprefix("logit_fc."): t for name, t in head.items()})
    words = {name: batch[name][:1].expand(2, -1) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        pooled = network.lxmert(**arguments({**batch, **words})).pooled_output
        case.close("logits", layers(pooled.reshape(1, -1)))


def compare_words(folder: Folder, table: Table) -> None:
    """The word pieces of the original's tokenizer."""
    tokens = load_tokens(locate(folder.path / "vqa"), None, 20)
    for i, case in enumerate(json.loads((folder.path / "vqa/sentences.json").read_text())):
        ids = tokens.encode([case["sentence"]]).ids[0].tolist()
        table.equal("lxmert", f"sentence {i}", ids + [0] * (20 - len(ids)), case["input_ids"])


def compare_original_pretraining(folder: Folder, table: Table) -> None:
    """LXRTPretraining; its -1 is our -100, and one weight per box serves its three losses."""
    stated = json.loads((folder.path / "vqa/config.json").read_text())
    heads = stated["num_attention_heads"]
    network = load_network(locate(folder.path / "pretrain/Epoch_LXRT.safetensors"), heads=heads)
    Names(folder, table, "pretrain/Epoch_LXRT.safetensors").compare(network, "pretrain")
    given, wanted = tensors(folder.arrays("pretrain/inputs.npz")), folder.arrays("pretrain/outputs.npz")
    inputs = {k: given.pop(k) for k in ("input_ids", "attention_mask", "visual_feats", "visual_pos")}
    labels = {"word_labels": given.pop("masked_lm_labels"), "answers": given.pop("ans")}
    labels = {name: torch.where(t < 0, IGNORED, t) for name, t in labels.items()}
    case = Case(table, "lxmert", "pretrain", wanted)
    case.depths(network, inputs, "pooled")
    with torch.no_grad():
        batch = {**inputs, **labels, **region_batch(given)}
        losses, scores = pretraining_losses(network, batch), pretraining_scores(network, batch)
    case.close("losses", torch.stack([losses[name] for name in LOSSES]))
    case.close("total_loss", losses["loss"])
    heads_of = {"answer_scores": scores.answers, "language_scores": scores.words, "matched_scores": scores.matched}
    for name, got in (heads_of | {f"{k}_scores": v for k, v in scores.regions.items()}).items():
        case.close(name, got)


def compare_hf_pretraining(folder: Folder, table: Table, inputs: Tensors) -> None:
    """LxmertForPreTraining, whose own sum of losses is in the file."""
    network = load_network(locate(folder.path / "pretrain"))
    Names(folder, table, "pretrain/model.safetensors").compare(network, None)
    given, wanted = tensors(folder.arrays("pretrain/inputs.npz")), folder.arrays("pretrain/outputs.npz")
    labels = {"word_labels": given.pop("labels"), "answers": given.pop("ans")}
    case = Case(table, "hf_lxmert", "pretrain", wanted)
    case.depths(network, inputs, "pooled_output")
    with torch.no_grad():
        batch = {**inputs, **labels, **region_batch(given)}
        scores = pretraining_scores(network, batch)
        case.close("loss", pretraining_losses(network, batch)["loss"])
    case.close("prediction_logits", scores.words)
    case.close("cross_relationship_score", scores.matched)
    case.close("question_answering_score", scores.answers)
    for name, got in scores.regions.items():
        case.close(f"{name}_scores", got)


def region_batch(given: Tensors) -> Tensors:
    """The labels of pre-training under our names."""
    conf = given.pop("visual_conf")
    return {
        "matched": given.pop("matched_label"),
        "object_labels": given.pop("obj_labels"), "object_weights": conf,
        "attribute_labels": given.pop("attr_labels"), "attribute_weights": conf,
        "feature_labels": given.pop("feat_target"), "feature_weights": conf,
    }  # fmt: skip


def compare_answers(folder: Folder, table: Table) -> None:
    """The form of answers in the pre-training table, and a head that was given another list of them."""
    lists = json.loads((folder.path / "answers/transfer.json").read_text())
    old = AnswerSpace(lists["all_ans"])
    cases = json.loads((folder.path / "answers/convert_ans.json").read_text())
    converted = [convert_answer(case["in"]) for case in cases]
    table.equal("lxmert", "convert_ans", converted, [case["out"] for case in cases])
    table.equal("lxmert", "known answers", [answer in old for answer in converted], [case["used"] for case in cases])
    heads = json.loads((folder.path / "vqa/config.json").read_text())["num_attention_heads"]
    source = load_network(locate(folder.path / "pretrain/Epoch_LXRT.safetensors"), heads=heads)
    network, _ = with_answers(source, old, AnswerSpace(lists["label2ans"]))
    wanted, own = folder.arrays("answers/transferred_head.npz"), network.answer_head.state_dict()
    for name in wanted:
        table.close("lxmert", f"transferred {name}", own[name], wanted[name], 0.0)
