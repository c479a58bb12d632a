"""VLE's network: the published sizes, the references, and what it makes of other checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash, tower_of
from featx.errors import WeightsError
from featx.vle.sizes import Sizes
from featx.vle.weights import load_network
from tests.parity.folder import Folder
from tests.parity.table import Table
from tests.parity.vle import compare

# layers of text, fusion and tower, width, patch -> parameters of the published model without a head
PUBLISHED = {
    "base": ((12, 6), 11, 768, 16, 378_328_320),
    "large": ((24, 6), 23, 1024, 14, 930_356_224),
}
_VCR = ("vle/vcr_q2a/", "vle/vcr_qa2r/", "vle/helpers/related_boxes.json", "vle/helpers/vcr_text.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_models_have_as_many_parameters_as_stated(name: str) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from featx.vle.network import Vle

    layers, blocks, width, patch, stated = PUBLISHED[name]
    sizes = Sizes(128_100, width, width, 4 * width, width // 64, layers)
    seen = CLIPVisionConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=blocks,
                            num_attention_heads=width // 64, patch_size=patch, image_size=224)  # fmt: skip
    with torch.device("meta"):
        network, tower = Vle(sizes.config()), CLIPVisionModel(seen)
    shared = sum(p.numel() for p in tower.post_layernorm.parameters())
    counts = [sum(p.numel() for p in module.parameters()) for module in (network, tower)]
    assert sum(counts) - shared == stated


def test_every_array_of_the_references_but_those_of_vcr_matches(shared: Path) -> None:
    folder, table = Folder(shared / "fixtures/consumers/vle"), Table()
    compare(folder, table)
    assert not table.failed, f"\n{table}"
    assert [name for name in folder.unread() if not name.startswith(_VCR)] == []
    assert len(table.rows) > 80


@pytest.mark.parametrize("prefix", ["", "vle.", "model.vle.", "module.model.vle."])
def test_names_may_have_the_prefix_of_the_whole_or_of_a_trainer(shared: Path, tmp_path: Path, prefix: str) -> None:
    source = shared / "fixtures/consumers/vle/pretrain"
    tensors = load_file(source / "model.safetensors")
    outer = prefix.removesuffix("vle.")
    named = {
        f"{prefix}{name.removeprefix('vle.')}" if name.startswith("vle.") else f"{outer}{name}": tensor
        for name, tensor in tensors.items()
    }
    save_file(named, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    got, want = load_network(locate(tmp_path)), load_network(locate(source))
    assert got.network.heads == ("itm_score", "pbc_classifier", "mlm_score")
    assert got.tower == want.tower == tower_hash(tower_of(tensors))
    own = want.network.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in got.network.state_dict().items())


def test_a_tensor_too_many_or_too_few_is_told_by_its_name(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures/consumers/vle/vqa"
    tensors = load_file(source / "model.safetensors")
    tensors["vle.surprise"] = torch.zeros(2)
    del tensors["vle.token_type_embeddings.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"lacks vle\.token_type_embeddings\.weight.*vle\.surprise"):
        load_network(locate(tmp_path))


@pytest.mark.parametrize("missing", ["text_config", "vision_config", "hidden_size"])
def test_a_configuration_that_is_not_of_vle_is_refused(shared: Path, tmp_path: Path, missing: str) -> None:
    source = shared / "fixtures/consumers/vle/vqa"
    stated = json.loads((source / "config.json").read_text())
    del stated[missing]
    (tmp_path / "config.json").write_text(json.dumps(stated))
    (tmp_path / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=missing):
        load_network(locate(tmp_path))
