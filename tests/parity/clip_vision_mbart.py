"""``clip_vision_mbart/``: the Flax captioning model, every depth, every loss, every sequence that was generated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import nn

from featx.checkpoint.fill import fill
from featx.checkpoint.place import locate
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of
from featx.clip_mbart.generate import Search, write
from featx.clip_mbart.losses import caption_loss, shifted
from featx.clip_mbart.network import caption_logits, encoded, load_network
from tests.parity.flax_beams import Rules, search
from tests.parity.folder import Arrays, Folder
from tests.parity.table import Table

PEER = "mbart"
RELATIVE = 1e-4  # of the largest value, as the README of the references asks
SCORES = 1e-4  # of a beam search, which are log-probabilities per token
CODES = {"en_XX": 194, "de_DE": 195, "fr_XX": 196, "es_XX": 197, "none": None}
LENGTH, PAD, EOS = 16, 1, 2
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beams": 1},
    "beam4": {},
    "beam4_length_penalty_2": {"length_penalty": 2.0},
    "beam4_no_early_stopping": {"early_stopping": False},
}


class Case:
    """The network and a table to compare in."""

    def __init__(self, folder: Folder, table: Table) -> None:
        self.folder, self.table = folder, table
        self.loaded = load_network(locate(folder.path))
        self.network = self.loaded.network

    def close(self, name: str, got: Any, wanted: Arrays, label: str = "") -> None:
        want = wanted[name]
        limit = RELATIVE * max(1.0, float(np.abs(want).max()))
        self.table.close(PEER, f"{label}{' ' if label else ''}{name}", got, want, limit)


@torch.no_grad()
def compare(folder: Folder, table: Table) -> None:
    """All of it, read from the flax file."""
    case = Case(folder, table)
    outputs, inputs = folder.arrays("outputs.npz"), folder.arrays("inputs.npz")
    compare_names(case)
    features = compare_tower(case, inputs.tensor("pixel_values").permute(0, 3, 1, 2), outputs)
    seen = encoded(case.network, features)
    case.close("visual_projection", seen, outputs)
    case.close("encoded_in_float", seen, outputs)
    compare_decoder(case, seen, inputs, outputs)
    compare_generated(case, outputs.tensor("encoded_in_float"), "generated_torch.npz")
    compare_flax(case, outputs.tensor("encoded_in_float"), "generated_in_float.npz")
    compare_flax(case, outputs.tensor("encoded_as_published"), "generated_as_published.npz")


def compare_names(case: Case) -> None:
    """Every parameter that the flax file is said to have is read, in torch's axes, into a parameter of that name."""
    stated = json.loads((case.folder.path / "parameter_shapes.json").read_text())
    tensors = read_tensors(case.folder.path / "flax_model.msgpack")
    names = {torch_name(name): entry for name, entry in stated.items()}
    case.table.equal(PEER, "names", sorted(names) == sorted(tensors), True)
    sums = [float(tensors[name].double().sum()) for name in names]
    case.table.relative(PEER, "sums", sums, [entry["sum"] for entry in names.values()], 1e-6)
    firsts = [float(tensors[name].flatten()[0]) for name in names]
    case.table.close(PEER, "first values", firsts, [entry["first"] for entry in names.values()], 0.0)
    own = {n: t for n, t in case.network.state_dict().items() if n in names}
    left = {n for n in names if not n.startswith("model.encoder.")}
    case.table.equal(PEER, "names of the network", sorted(own) == sorted(left), True)
    case.table.equal(
        PEER, "values of the network", [bool((own[n] == tensors[n]).all()) for n in own], [True] * len(own)
    )
    case.table.equal(PEER, "hash of the tower", case.loaded.tower == tower_hash(tower_of(tensors)), True)


def torch_name(name: str) -> str:
    """``a/kernel`` -> ``a.weight``."""
    *parts, last = name.split("/")
    return ".".join([*parts, "weight" if last in ("kernel", "scale", "embedding") else last])


def compare_tower(case: Case, pixels: torch.Tensor, wanted: Arrays) -> torch.Tensor:
    """The vision tower of the file in transformers' CLIPVisionModel; ``last_hidden_state`` of the pictures."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    stated = json.loads((case.folder.path / "config.json").read_text())["clip_vision_config"]
    known = set(CLIPVisionConfig().to_dict()) - {"model_type", "transformers_version", "architectures", "dtype"}
    tower = CLIPVisionModel(CLIPVisionConfig(**{n: v for n, v in stated.items() if n in known})).eval()
    fill(tower, tower_of(read_tensors(case.folder.path / "flax_model.msgpack")), "the tower")
    seen: dict[str, torch.Tensor] = {}
    modules = {"vision_embeddings": tower.embeddings, "vision_pre_layernorm": tower.pre_layrnorm}
    modules |= {f"vision_layer_{i}": layer for i, layer in enumerate(tower.encoder.layers)}
    handles = [module.register_forward_hook(keep(seen, name)) for name, module in modules.items()]
    features: torch.Tensor = tower(pixels).last_hidden_state
    for handle in handles:
        handle.remove()
    for name, got in seen.items():
        case.close(name, got, wanted)
    case.close("vision_last_hidden_state", features, wanted)
    whole = tower(pixels.trunc()).last_hidden_state  # the original's encode() casts pixels to int32
    case.close("encoded_as_published", encoded(case.network, whole), wanted)
    return features


def keep(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(module: nn.Module, given: Any, out: Any) -> None:
        seen[name] = out if isinstance(out, torch.Tensor) else out[0]

    return hook


def compare_decoder(case: Case, seen: torch.Tensor, inputs: Arrays, wanted: Arrays) -> None:
    """Teacher-forced: depths, logits and losses behind both start tokens."""
    labels, real = inputs.tensor("labels"), inputs.tensor("attention_mask")
    case.table.equal(PEER, "attention_mask", real, (labels != PAD).long())
    decoder = case.network.model.decoder
    logits = {}
    for start, token in (("pad", PAD), ("eos", EOS)):
        ids = shifted(labels, token)
        case.table.equal(PEER, f"decoder_input_ids_start_{start}", ids, inputs[f"decoder_input_ids_start_{start}"])
        states: dict[str, torch.Tensor] = {}
        modules = {"embeddings": decoder.layernorm_embedding, "output": decoder.layer_norm}
        modules |= {f"layer_{i}": layer for i, layer in enumerate(decoder.layers)}
        handles = [module.register_forward_hook(keep(states, name)) for name, module in modules.items()]
        logits[start] = caption_logits(case.network, seen, torch.ones(seen.shape[:2]), ids, real)
        for handle in handles:
            handle.remove()
        if start == "pad":
            case.close("decoder_embeddings", states["embeddings"], wanted)
            depths = [states["embeddings"], *(states[f"layer_{i}"] for i in range(len(decoder.layers)))]
            case.close("decoder_hidden_states", torch.stack(depths), wanted)
            case.close("decoder_output", states["output"], wanted)
        case.close(f"logits_start_{start}", logits[start], wanted)
        case.close(f"loss_start_{start}", caption_loss(logits[start], labels, real), wanted)
    case.close("loss_start_pad_smoothing_0.1", caption_loss(logits["pad"], labels, real, 0.1), wanted)


def searches(wanted: Arrays) -> list[tuple[str, str, str, str | None]]:
    """Of each stored search: array of its ids, name of the search, language, array of its scores."""
    found = []
    for kind in SEARCHES:
        for language in CODES:
            if f"{kind}_{language}" in wanted:
                scores = f"{kind}_score_{language}"
                found.append((f"{kind}_{language}", kind, language, scores if scores in wanted else None))
    return found


def padded(ids: Any) -> Any:
    """Ids filled up with padding to the length of the references."""
    found = np.asarray(ids)
    return np.pad(found, ((0, 0), (0, LENGTH - found.shape[1])), constant_values=PAD)


def compare_generated(case: Case, seen: torch.Tensor, file: str) -> None:
    """Ids that transformers generates: equal. Their scores."""
    wanted, everything = case.folder.arrays(file), torch.ones(seen.shape[:2], dtype=torch.bool)
    for ids, kind, language, scores in searches(wanted):
        how = Search(**{"max_length": LENGTH, **SEARCHES[kind]})
        found = write(case.network, seen, everything, CODES[language], how)
        case.table.equal(PEER, f"torch {ids}", padded(found.ids), wanted[ids])
        if scores is not None:
            case.table.close(PEER, f"torch {scores}", found.scores, wanted[scores], SCORES)


def compare_flax(case: Case, seen: torch.Tensor, file: str) -> None:
    """Greedy ids but for ``</s>``, which Flax overwrites with padding; beams by the original's own search."""
    wanted, everything = case.folder.arrays(file), torch.ones(seen.shape[:2], dtype=torch.bool)
    label = file.removeprefix("generated_").removesuffix(".npz")
    for ids, kind, language, scores in searches(wanted):
        settings = {"max_length": LENGTH, **SEARCHES[kind]}
        if kind == "greedy":
            found = padded(write(case.network, seen, everything, CODES[language], Search(**settings)).ids)
            found[:, 1:][found[:, 1:] == EOS] = PAD
            case.table.equal(PEER, f"{label} {ids}", found, wanted[ids])
            continue
        rules = Rules(CODES[language], LENGTH, penalty=settings.get("length_penalty", 1.0),
                      early_stopping=settings.get("early_stopping", True))  # fmt: skip
        best, got = search(lambda given: next_tokens(case.network, seen, given), len(seen), rules)
        case.table.equal(PEER, f"{label} {ids}", best, wanted[ids])
        if scores is not None:
            case.table.relative(PEER, f"{label} {scores}", got, wanted[scores], 1e-6)


def next_tokens(network: Any, seen: torch.Tensor, ids: Any) -> Any:
    """Log-probabilities ``[B, K, V]`` of the token behind ids ``[B, K, l]``."""
    pictures, beams, length = ids.shape
    rows = seen.repeat_interleave(beams, dim=0)
    logits = caption_logits(network, rows, None, torch.from_numpy(ids.reshape(-1, length)))[:, -1]
    return logits.log_softmax(dim=1).reshape(pictures, beams, -1).numpy()
