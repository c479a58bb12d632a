"""``clip/``: transformers' CLIP at every depth, and its preprocessing on Pillow and on tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featx.checkpoint.place import locate
from featx.decode import Policy, decode
from featx_extractors.towers.family import CLIP
from featx_extractors.towers.geometry import Frame
from featx_extractors.towers.loading import load_tower, read_checkpoint
from featx_extractors.towers.pixels import resized, to_input, window
from featx_extractors.towers.resizing import Resample, Resizing, published
from featx_extractors.towers.texts import text_network
from tests.parity.folder import Folder
from tests.parity.lxmert import keep, limit
from tests.parity.table import Table

Tensors = dict[str, torch.Tensor]
GREY = 1.0  # grey levels


def compare(folder: Folder, table: Table) -> None:
    """Both halves of the folder."""
    compare_model(folder, table)
    for name in folder.files("preprocess/*.npz"):
        compare_pixels(folder, table, name)


def compare_model(folder: Folder, table: Table) -> None:
    """Every depth of both towers, the projections, and what the loss is made of."""
    place = locate(folder.path / "model")
    config, tensors = read_checkpoint(place, "model")
    batch, wanted = folder.arrays("model/inputs.npz"), folder.arrays("model/outputs.npz")
    _, text = text_network(config, tensors, "model")
    tower = load_tower(folder.path / "model")
    names = ["last_hidden_state", "post_layernorm", "pooled", "projected", "hidden_0", "hidden_-1", "embeddings"]
    seen, handles = watched(tower.network, text)
    given = tower(batch.tensor("pixel_values"), [tower.choice(name) for name in names])
    with torch.no_grad():
        ids, mask = batch.tensor("input_ids"), batch.tensor("attention_mask")
        texts = text.get_text_features(input_ids=ids, attention_mask=mask)
    for handle in handles:
        handle.remove()
    found = {
        **seen,
        "vision_last_hidden_state": given["last_hidden_state"],
        "vision_all_tokens_post_layernorm": given["post_layernorm"],
        "vision_pooler_output": given["pooled"],
        "image_features": given["projected"],
        "text_last_hidden_state": texts.last_hidden_state,
        "text_features": texts.pooler_output,
        **contrast(given["projected"], texts.pooler_output, tensors["logit_scale"]),
    }
    for name in wanted:
        table.close("clip", f"model {name}", found[name].reshape(wanted[name].shape), wanted[name], limit(wanted[name]))
    for name, twin in {"hidden_0": "vision_layer_0", "hidden_-1": "vision_layer_1"}.items():
        table.close("clip", f"model {name}", given[name], wanted[twin], limit(wanted[twin]))
    table.close("clip", "model embeddings", given["embeddings"], wanted["vision_pre_layernorm"], limit(given["pooled"]))
    compare_names(folder, table, tower.network, text)


def watched(vision: Any, text: Any) -> tuple[Tensors, list[Any]]:
    """What the modules of both towers give, under the names of the references."""
    modules: dict[str, nn.Module] = {
        "vision_embeddings": vision.embeddings,
        "vision_pre_layernorm": vision.pre_layrnorm,
        "text_embeddings": text.text_model.embeddings,
    }
    for side, network in (("vision", vision), ("text", text.text_model)):
        modules |= {f"{side}_layer_{i}": layer for i, layer in enumerate(network.encoder.layers)}
    seen: Tensors = {}
    handles = [module.register_forward_hook(keep(seen, name)) for name, module in modules.items()]
    pooled = text.text_projection.register_forward_hook(
        lambda module, given, out: seen.update(text_pooler_output=given[0])
    )
    return seen, [*handles, pooled]


def contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> Tensors:
    """CLIP's own comparison of pictures and texts (Radford et al. 2021, figure 3)."""
    images, texts = nn.functional.normalize(image), nn.functional.normalize(text)
    logits = scale.exp() * images @ texts.T
    own = torch.arange(len(logits))
    loss = (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)) / 2
    return {
        "image_embeds": images, "text_embeds": texts, "logits_per_image": logits, "logits_per_text": logits.T,
        "loss": loss,
    }  # fmt: skip


def compare_names(folder: Folder, table: Table, vision: nn.Module, text: nn.Module) -> None:
    """Every tensor of the file is in one of the networks, with its values."""
    arrays = folder.arrays("model/model.safetensors")
    held = {f"vision_model.{name}": tensor for name, tensor in vision.state_dict().items()} | text.state_dict()
    same = {name: name in held and bool((held[name] == arrays.tensor(name)).all()) for name in arrays}
    table.equal("clip", "model names", sorted(held), sorted(arrays))
    table.equal("clip", "model values", list(same.values()), [True] * len(arrays))


def compare_pixels(folder: Folder, table: Table, name: str) -> None:
    """Sizes, cuts and pixels of every picture at one size, on Pillow or as the Flax projects trained."""
    peer, _, side = Path(name).stem.partition("_")
    arrays = folder.arrays(name)
    stated = {case["image"]: case for case in geometry(folder, peer) if case["size"] == int(side)}
    for entry in arrays:
        photo, _, rest = entry.partition("_")
        variant: Resample = "pil" if peer == "pil" else "tensor-antialias" if "antialias" in rest else "tensor"
        how = preprocessing(int(side), variant)
        pixels = picture(folder.path / f"preprocess/{photo}.png", dropped="dropped" in rest)
        frame = how.frame(pixels.shape[0], pixels.shape[1], 1)
        label = f"{Path(name).stem} {entry}"
        if "dropped" not in rest:
            compare_geometry(table, label, frame, stated[f"{photo}.png"])
        if rest.endswith("uint8"):
            grey = resized(pixels, frame, how)
            got = grey if "resized" in rest else window(grey, frame)
            table.close("clip", label, got.transpose(2, 0, 1), arrays[entry], 0.0 if peer == "pil" else GREY)
        else:
            step = GREY / 255 / min(how.std)
            table.close("clip", label, to_input(pixels, frame, how), arrays[entry], 1e-6 if peer == "pil" else step)


def geometry(folder: Folder, peer: str) -> list[dict[str, Any]]:
    """What the references say of sizes and cuts."""
    name = "geometry.json" if peer == "pil" else "geometry_torchvision.json"
    found: list[dict[str, Any]] = json.loads((folder.path / "preprocess" / name).read_text())
    return found


def compare_geometry(table: Table, label: str, frame: Frame, stated: dict[str, Any]) -> None:
    got = [*frame.resized[::-1], *frame.offset]
    table.equal("clip", f"{label} geometry", got, [*stated["resized_wh"], stated["crop_top"], stated["crop_left"]])


def preprocessing(side: int, resample: Resample) -> Resizing:
    """CLIP's, at a size."""
    settings = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    how = published(settings, CLIP, side, "preprocess")
    return Resizing.of({**how.switches(), "resample": resample})


def picture(path: Path, *, dropped: bool = False) -> np.ndarray[Any, Any]:
    """The picture as we decode it, or, as the comparison of transformers' versions wants it, without its alpha."""
    if dropped:
        from PIL import Image

        return np.asarray(Image.open(path))[..., :3]
    return decode(path.read_bytes(), Policy())
