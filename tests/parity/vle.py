"""``vle/``: VLE of iflytek, every depth, head and loss; how it finds patches and stretches position embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from featx.checkpoint.fill import fill
from featx.checkpoint.place import locate
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of
from featx.lxmert.losses import bce_soft
from featx.vle.losses import match_loss, word_loss
from featx.vle.network import States, Vle
from featx.vle.patches import patches_of
from featx.vle.weights import Loaded, load_network
from tests.parity.folder import Arrays, Entries, Folder
from tests.parity.table import Table

PEER = "vle"
RELATIVE = 1e-4  # of the largest value, as the README of the references asks
EMBEDDINGS = "vle.text_model.embeddings.word_embeddings.weight"
DECODER = "mlm_score.1.predictions.decoder.weight"


class Case:
    """One network of the folder and a table to compare in."""

    def __init__(self, folder: Folder, part: str, table: Table) -> None:
        self.folder, self.part, self.table = folder, part, table
        self.loaded: Loaded = load_network(locate(folder.path / part))
        self.network: Vle = self.loaded.network
        self.tensors = read_tensors(folder.path / part / "model.safetensors")

    def arrays(self, name: str) -> Arrays:
        return self.folder.arrays(f"{self.part}/{name}")

    def close(self, name: str, got: Any, wanted: Arrays, note: str = "") -> None:
        want = wanted[name]
        limit = RELATIVE * max(1.0, float(np.abs(want).max()))
        self.table.close(PEER, f"{self.part} {name}", got, want, limit, note)


@torch.no_grad()
def compare(folder: Folder, table: Table) -> None:
    """All of it but VCR's: ``vcr_q2a``, ``vcr_qa2r``, ``helpers/related_boxes.json``, ``helpers/vcr_text.json``."""
    answers = Case(folder, "vqa", table)
    compare_names(answers)
    compare_answers(answers)
    pretrained = Case(folder, "pretrain", table)
    compare_names(pretrained)
    compare_pretrained(pretrained, answers.arrays("inputs.npz"))
    compare_positions(folder, table)
    compare_patches(folder.entries("helpers/patch_boxes.json"), table)


def compare_names(case: Case) -> None:
    """Every tensor of the file is in the network or in the tower, and ``config.json`` says what these are made by."""
    stored, table = case.arrays("model.safetensors"), case.table
    own = dict(case.network.state_dict())
    own |= {f"vle.vision_model.vision_model.{name}": t for name, t in tower_of(case.tensors).items()}
    counts = {name for name in stored if name.endswith("position_ids")}
    twice = {DECODER: EMBEDDINGS, "mlm_score.1.predictions.decoder.bias": "mlm_score.1.predictions.bias"}
    twice = {name: original for name, original in twice.items() if name in stored}
    table.equal(PEER, f"{case.part} names", set(own) | counts | set(twice) == set(stored), True)
    same = [torch.equal(tensor, stored.tensor(name)) for name, tensor in own.items()]
    table.equal(PEER, f"{case.part} values", same, [True] * len(same))
    for name in counts:
        table.equal(PEER, f"{case.part} {name}", stored[name][0], np.arange(stored[name].shape[1]))
    for name, original in twice.items():
        # The README says that the table of words is stored twice; what is stored in its place is another table, which
        # the original overwrites by tying: its own logits are those of the word embeddings.
        stored[name]
        table.equal(PEER, f"{case.part} {name} is not held", name in own or original not in own, False)
    table.equal(PEER, f"{case.part} hash of the tower", case.loaded.tower == tower_hash(tower_of(case.tensors)), True)
    stated = plain(case.folder.entries(f"{case.part}/config.json"))
    text, sizes = case.network.vle.text_config, case.network.vle
    found = [text.hidden_size, text.num_hidden_layers, text.position_buckets, text.layer_norm_eps, sizes.dim,
             len(sizes.cross_modal_text_layers), sizes.token_type_embeddings.num_embeddings]  # fmt: skip
    wanted = [*(stated["text_config"][n] for n in ("hidden_size", "num_hidden_layers", "position_buckets",
              "layer_norm_eps")), stated["vision_config"]["hidden_size"], stated["num_hidden_layers"],
              stated["num_token_types"]]  # fmt: skip
    table.equal(PEER, f"{case.part} config.json", found, wanted)
    norms = {m.eps for layers in (sizes.cross_modal_text_layers, sizes.cross_modal_image_layers)
             for m in layers.modules() if isinstance(m, nn.LayerNorm)}  # fmt: skip
    table.equal(PEER, f"{case.part} layer_norm_eps", sorted(norms), [stated["layer_norm_eps"]])


def plain(entries: Any) -> Any:
    """Everything below, read."""
    return {key: plain(entries[key]) for key in entries} if isinstance(entries, Entries) else entries


def compare_tower(case: Case, pixels: torch.Tensor, wanted: Arrays) -> torch.Tensor:
    """The vision tower of the file in transformers' CLIPVisionModel; ``last_hidden_state`` of the pictures."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    stated = json.loads((case.folder.path / case.part / "config.json").read_text())["vision_config"]
    known = set(CLIPVisionConfig().to_dict()) - {"model_type", "transformers_version", "architectures", "dtype"}
    tower = CLIPVisionModel(CLIPVisionConfig(**{n: v for n, v in stated.items() if n in known})).eval()
    fill(tower, tower_of(case.tensors), "the tower")
    modules: dict[str, nn.Module] = {"vision_embeddings": tower.embeddings, "vision_pre_layernorm": tower.pre_layrnorm}
    modules |= {f"vision_layer_{i}": layer for i, layer in enumerate(tower.encoder.layers)}
    with Watch(modules) as seen:
        features: torch.Tensor = tower(pixels).last_hidden_state
    for name, got in seen.items():
        case.close(name, got, wanted)
    case.close("vision_last_hidden_state", features, wanted)
    return features


def compare_depths(case: Case, inputs: Arrays, wanted: Arrays) -> States:
    """Every depth, from pixels. Padded rows of the text are zeros to the original's attention; see :class:`Blank`."""
    features = compare_tower(case, inputs.tensor("pixel_values"), wanted)
    trunk = case.network.vle
    modules: dict[str, nn.Module] = {
        "vision_post_layernorm": trunk.post_layernorm, "image_projected": trunk.image_projection_layer,
        "text_embeddings": trunk.text_model.embeddings, "text_projected": trunk.text_projection_layer,
        "text_pooled": trunk.cross_modal_text_pooler, "image_pooled": trunk.cross_modal_image_pooler,
    }  # fmt: skip
    modules |= {f"text_layer_{i}": layer for i, layer in enumerate(trunk.text_model.encoder.layer)}
    modules |= {f"fusion_text_{i}": layer for i, layer in enumerate(trunk.cross_modal_text_layers)}
    modules |= {f"fusion_image_{i}": layer for i, layer in enumerate(trunk.cross_modal_image_layers)}
    given = (inputs.tensor("input_ids"), inputs.tensor("attention_mask"), features)
    with Blank(trunk.text_model), Watch(modules) as seen:
        states = case.network(*given)
    for name, got in seen.items():
        case.close(name, got, wanted)
    types = trunk.token_type_embeddings.weight
    case.close("fusion_text_in", seen["text_projected"] + types[0], wanted)
    case.close("fusion_image_in", seen["image_projected"] + types[1], wanted)
    case.close("pooler_output", states.pooled, wanted)
    own = case.network(*given)  # as it is used
    case.close("pooler_output", own.pooled, wanted, "without touching padded rows")
    last, real = f"fusion_text_{len(trunk.cross_modal_text_layers) - 1}", given[1].bool().numpy()
    limit = RELATIVE * max(1.0, float(np.abs(wanted[last]).max()))
    case.table.close(PEER, f"{case.part} {last}, real rows", own.text.numpy()[real], wanted[last][real], limit)
    return states


def compare_answers(case: Case) -> None:
    """``VLEForVQA`` and its pipeline; the torch file is the same network."""
    inputs, wanted = case.arrays("inputs.npz"), case.arrays("outputs.npz")
    case.table.equal(PEER, "vqa token_type_ids", inputs["token_type_ids"], np.zeros_like(inputs["input_ids"]))
    states = compare_depths(case, inputs, wanted)
    logits = case.network.answer_logits(states)
    case.close("logits", logits, wanted)
    case.close("loss", bce_soft(logits, inputs.tensor("vqa_target")), wanted)
    chances = logits.softmax(dim=1)
    case.close("probabilities", chances, wanted)
    best = chances.argsort(dim=1, descending=True)[:, :5]
    case.table.equal(PEER, "vqa top5_labels", best, wanted["top5_labels"])
    names = plain(case.folder.entries("vqa/config.json"))["id2label"]
    shown = [plain(row) for row in case.folder.entries("vqa/pipeline_top5.json").rows()]
    answers = [names[str(i)] for i in best[0].tolist()]
    case.table.equal(PEER, "vqa pipeline answers", answers, [row["answer"] for row in shown])
    scores = chances[0, best[0]]
    case.table.close(PEER, "vqa pipeline scores", scores, [row["score"] for row in shown], RELATIVE)
    other = load_network(locate(case.folder.path / "vqa/pytorch_model.bin")).network.state_dict()
    same = [torch.equal(tensor, other[name]) for name, tensor in case.network.state_dict().items()]
    case.table.equal(PEER, "vqa pytorch_model.bin", same, [True] * len(other))


def compare_pretrained(case: Case, inputs: Arrays) -> None:
    """``VLEModel``, and ``VLEForITM``, ``VLEForPBC``, ``VLEForMLM`` of one checkpoint."""
    labels, wanted, network = case.arrays("inputs.npz"), case.arrays("outputs.npz"), case.network
    states = compare_depths(case, inputs, wanted)
    case.close("text_embeds", states.text, wanted)
    case.close("image_embeds", states.image, wanted)
    matches = network.match_logits(states)
    case.close("itm_logits", matches, wanted)
    case.close("itm_probabilities", matches.softmax(dim=1), wanted)
    case.close("itm_loss", match_loss(matches, labels.tensor("itm_labels")), wanted)
    patches = network.patch_logits(states)[:, 1:]
    case.close("pbc_logits", patches, wanted)
    case.close("pbc_map", patches[:, :, 1].softmax(dim=1).reshape(wanted["pbc_map"].shape), wanted)
    masked = network.word_logits(states)
    case.close("mlm_logits", masked, wanted)
    case.close("mlm_loss", word_loss(masked, labels.tensor("mlm_labels")), wanted)


def compare_positions(folder: Folder, table: Table) -> None:
    """Position embeddings as transformers stretches them, which is how our towers see pictures of other sizes."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    stored = folder.arrays("helpers/position_embedding.npz")
    before = stored.tensor("before")
    sizes = CLIPVisionConfig(hidden_size=before.shape[1], image_size=64, patch_size=16, num_hidden_layers=1,
                             num_attention_heads=4, intermediate_size=64)  # fmt: skip
    embeddings: Any = CLIPVisionModel(sizes).embeddings
    embeddings.position_embedding.weight.copy_(before)
    for side in (48, 96, 176):
        rows = (side // 16) ** 2 + 1
        found = embeddings.interpolate_pos_encoding(torch.zeros(1, rows, before.shape[1]), side, side)[0]
        table.close(PEER, f"position_embedding after_{side}", found, stored[f"after_{side}"], 1e-6)


def compare_patches(cases: Entries, table: Table) -> None:
    """Patches that boxes touch on the stretched picture, and the rectangles of these."""
    for number, case in enumerate(map(plain, cases.rows())):
        width, height, side = case["width"], case["height"], case["image_size"] // case["patch_size"]
        found = [patches_of(box, width, height, case["image_size"], case["patch_size"]) for box in case["boxes"]]
        table.equal(PEER, f"patch_boxes {number} ids", found == case["patch_ids"], True)
        ends = [[min(i % side for i in ids), min(ids) // side, max(i % side for i in ids) + 1, max(ids) // side + 1]
                for ids in found]  # fmt: skip
        cell = np.array([width, height, width, height]) / side
        table.close(PEER, f"patch_boxes {number} boxes", np.array(ends) * cell, case["patch_boxes"], 1e-6)


class Watch:
    """What modules put out, by the name that is given to each."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules, self._handles = modules, []  # type: ignore[var-annotated]

    def __enter__(self) -> dict[str, torch.Tensor]:
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, given: Any, out: Any) -> None:
                seen[name] = out if isinstance(out, torch.Tensor) else out[0]

            return hook

        self._handles = [module.register_forward_hook(keep(name)) for name, module in self._modules.items()]
        return seen

    def __exit__(self, *problem: Any) -> None:
        for handle in self._handles:
            handle.remove()


class Blank:
    """DeBERTa's attention as transformers 4 computed it: a padded row looks at nothing, and not at everything alike.

    No real row depends on it; the references hold the padded rows, too.
    """

    def __init__(self, text_model: nn.Module) -> None:
        self._layers = [m for m in text_model.modules() if type(m).__name__ == "DisentangledSelfAttention"]

    def __enter__(self) -> None:
        def hook(module: nn.Module, given: Any, named: Any, out: Any) -> Any:
            mask = given[1] if len(given) > 1 else named["attention_mask"]
            return (out[0] * mask[:, 0].bool().any(dim=-1)[:, :, None], *out[1:])

        self._handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in self._layers]

    def __exit__(self, *problem: Any) -> None:
        for handle in self._handles:
            handle.remove()
