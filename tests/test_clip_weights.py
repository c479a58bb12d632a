"""Towers of every family as transformers computes them, taken out of every kind of checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from featx.checkpoint.tower import tower_hash, tower_of
from featx.cli import main
from featx.errors import UsageError, WeightsError
from featx.extractor import Picture
from featx.wants import Wants, mismatches
from featx_extractors.clip import CLIP
from featx_extractors.towers.loading import load_tower
from featx_extractors.towers.texts import load_texts
from featx_extractors.towers.transfer import holds_tower, import_tower, inspect_tower
from tests.towers import BLOCKS, VISION, draw, save_clip

FAMILIES = ["CLIP", "Siglip", "ChineseCLIP", "AltCLIP", "MetaClip2"]


def vision(family: str, **more: Any) -> Any:
    """A tiny vision model of transformers."""
    config = getattr(transformers, f"{family}VisionConfig")(**VISION, **more)
    return draw(getattr(transformers, f"{family}VisionModel")(config))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("names", ["of transformers 5", "of transformers 4"])
@pytest.mark.parametrize("size", [(32, 32), (40, 56)])
def test_every_state_of_a_tower_alone_is_that_of_transformers(
    tmp_path: Path, family: str, names: str, size: tuple[int, int]
) -> None:
    model = vision(family)
    model.save_pretrained(tmp_path)
    if names == "of transformers 4":
        file = tmp_path / "model.safetensors"
        save_file({f"vision_model.{name}": tensor for name, tensor in load_file(file).items()}, file)
    tower = load_tower(tmp_path)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        told = model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
    wanted = ["embeddings", "hidden_0", "hidden_-2", "last_hidden_state", "pooled"]
    found = tower(pixels, [tower.choice(name) for name in wanted])
    states = told.hidden_states
    for name, expected in zip(wanted, [states[0], states[1], states[2], states[3], told.pooler_output], strict=True):
        torch.testing.assert_close(found[name], expected, atol=2e-6, rtol=1e-5)
    normed = tower(pixels, [tower.choice("post_layernorm")])["post_layernorm"]
    expected = told.last_hidden_state if family == "Siglip" else model.post_layernorm(states[3])
    torch.testing.assert_close(normed, expected, atol=2e-6, rtol=1e-5)


def whole(family: str) -> tuple[Any, dict[str, Any]]:
    """A tiny model of both towers, and inputs of its text side."""
    text: dict[str, Any] = {**BLOCKS, "vocab_size": 40, "max_position_embeddings": 12}
    marks = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    if family == "Siglip":
        text |= {"projection_size": 24}
    config = getattr(transformers, f"{family}Config")(
        text_config={**text, **marks}, vision_config=VISION, projection_dim=10
    )
    ids = torch.randint(4, 40, (3, 7), generator=torch.Generator().manual_seed(2))
    ids[:, -1] = 3
    return draw(getattr(transformers, f"{family}Model")(config)), {"input_ids": ids}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_towers_of_a_whole_model_give_its_features(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = whole(family)
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tower = load_tower(tmp_path)
    name = "pooled" if family == "Siglip" else "projected"
    with torch.no_grad():
        images = model.get_image_features(pixels).pooler_output
        texts = model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(tower(pixels, [tower.choice(name)])[name], images, atol=2e-6, rtol=1e-5)
    monkeypatch.setattr("featx_extractors.towers.texts._tokenizer", lambda folder: FakeTokenizer())
    text = load_texts(tmp_path)
    assert text.dim == texts.shape[1]
    torch.testing.assert_close(text(inputs["input_ids"].tolist()), texts, atol=2e-6, rtol=1e-5)
    assert text.vision == tower.origin.sha256 == tower_hash(model.vision_model.state_dict())


class FakeTokenizer:
    def get_vocab(self) -> dict[str, int]:
        return {"a": 0}


CHECKPOINTS = {
    "vle/vqa": "vision_last_hidden_state",
    "vle/vqa/pytorch_model.bin": "vision_last_hidden_state",
    "clip_vision_bert/vqa": "vision_last_hidden_state",
    "clip_vision_mbart": "vision_last_hidden_state",
    "clip/model": "vision_last_hidden_state",
}


@pytest.mark.parametrize("source", CHECKPOINTS)
def test_a_tower_taken_out_of_a_published_layout_is_the_same_tower(
    shared: Path, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its hash, by the vision output that the system itself gave, and as transformers reads the folder."""
    place = shared / "fixtures/consumers" / source
    assert main(["weights", "import", str(place), str(tmp_path / "tower"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    folder = place if place.is_dir() else place.parent
    inputs, wanted = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")["vision_last_hidden_state"]
    pixels = torch.from_numpy(inputs["pixel_values"]).float()
    pixels = pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    model = transformers.CLIPVisionModel.from_pretrained(tmp_path / "tower").eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(pixels).last_hidden_state, wanted, atol=2e-5)
    assert report["sha256"] == tower_hash(model.state_dict())
    for location in (place, tmp_path / "tower"):
        clip = CLIP(weights=str(location), dtype="float32")
        assert clip.provenance()["weights"]["sha256"] == report["sha256"]
        found = clip.tower(pixels, [clip.main])["last_hidden_state"]
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_model_takes_features_of_its_own_tower_and_of_no_other(shared: Path, tmp_path: Path) -> None:
    """VLE wants the hash of the tower within its checkpoint: met by the whole, and by the folder taken out of it."""
    whole_checkpoint = shared / "fixtures/consumers/vle/vqa"
    tensors = load_file(whole_checkpoint / "model.safetensors")
    wants = Wants(weights=tower_hash(tower_of(tensors)), switches={"tensor": "last_hidden_state", "cls": True})
    import_tower(str(whole_checkpoint), tmp_path / "tower")
    for place in (whole_checkpoint, tmp_path / "tower"):
        clip = CLIP(weights=str(place))
        assert not list(mismatches(wants, clip.schema, clip.provenance()))
    others = [
        CLIP(weights=str(shared / "fixtures/consumers/clip/model")),
        CLIP(weights=str(tmp_path / "tower"), tensor="post_layernorm"),
        CLIP(weights=str(tmp_path / "tower"), cls=False),
    ]
    told = [[one.what for one in mismatches(wants, other.schema, other.provenance())] for other in others]
    assert told == [["weights"], ["profile"], ["profile"]]


def test_the_folder_of_a_tower_keeps_projection_and_preprocessing(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    settings = {
        "size": {"height": 40, "width": 48},
        "do_center_crop": False,
        "image_mean": [0.1, 0.2, 0.3],
        "resample": 2,
    }
    (tmp_path / "clip/preprocessor_config.json").write_text(json.dumps(settings))
    import_tower(str(tmp_path / "clip"), tmp_path / "tower")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    records = []
    for folder in ("clip", "tower"):
        clip = CLIP(weights=str(tmp_path / folder), tensor="projected")
        records.append(clip([clip.prepare(Picture("p", pixels))])[0])
        assert clip.notes() == []
    assert records[0] == records[1]
    assert transformers.AutoImageProcessor.from_pretrained(tmp_path / "tower").image_mean == (0.1, 0.2, 0.3)


def test_inspect_says_what_a_tower_is_and_still_knows_detectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_clip(tmp_path / "clip")
    report = inspect_tower(str(tmp_path / "clip"))
    assert (report["blocks"], report["dim"], report["heads"], report["rows"]) == (3, 24, 2, 17)
    assert (report["projection"], report["family"]) == (12, "clip")
    assert main(["weights", "inspect", str(tmp_path / "clip")]) == 0
    assert report["sha256"] in capsys.readouterr().out
    assert main(["weights", "inspect", "seeded-clip-tiny"]) == 0
    assert "NO: the features mean nothing" in capsys.readouterr().out
    assert main(["weights", "inspect", "seeded-tiny"]) == 0
    assert "40 objects" in capsys.readouterr().out
    assert not holds_tower("seeded-tiny")
    assert not holds_tower(str(tmp_path / "nowhere"))


def write_config(change: dict[str, Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))

    return spoil


def write_steps(steps: dict[str, Any]) -> Callable[[Path], None]:
    return lambda folder: (folder / "preprocessor_config.json").write_text(json.dumps(steps))  # type: ignore[return-value]


def without(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({n: t for n, t in tensors.items() if n != name}, folder / "model.safetensors")

    return spoil


def second_tower(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    twin = {f"other.{name}": tensor.clone() for name, tensor in tensors.items()}
    save_file({**tensors, **twin}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (write_config({"num_hidden_layers": 4}), "encoder.layers.3"),
        (write_config({"num_hidden_layers": 2}), "encoder.layers.2"),
        (write_config({"hidden_size": 48}), "another shape"),
        (write_config({"patch_size": [8, 4]}), "patch_size"),
        (write_config({"hidden_size": "x"}), "hidden_size 'x'"),
        (write_config({"num_hidden_layers": -1}), "num_hidden_layers -1"),
        (write_config({"num_attention_heads": 5}), "5 heads"),
        (write_config({"layer_norm_eps": "x"}), "make no CLIPVisionModel"),
        (write_config({"hidden_act": "no such thing"}), "make no CLIPVisionModel"),
        (write_config({"model_type": "siglip2_vision_model"}), "NaFlex"),
        (write_config({"model_type": "xclip_vision_model"}), "xclip_vision_model"),
        (without("post_layernorm.bias"), "post_layernorm.bias"),
        (without("embeddings.patch_embedding.weight"), "no vision tower"),
        (second_tower, "2 vision towers"),
        (write_steps({"do_resize": False}), "do_resize"),
        (write_steps({"size": {"longest_edge": 8}}), "longest_edge"),
        (write_steps({"image_std": [1, 2]}), r"\[1, 2\]"),
        (write_steps({"resample": 9}), "filter 9"),
        (write_steps({"image_mean": ["a", "b", "c"]}), r"\['a', 'b', 'c'\]"),
        (write_steps({"image_std": [1, 0, 1]}), "deviations"),
        (write_steps({"rescale_factor": None}), "rescale_factor None"),
        (write_steps({"size": {"height": 0, "width": 8}}), "resizes to"),
        (write_steps({"size": {"height": 9, "width": 9}, "crop_size": 8, "do_center_crop": True}), "cuts 8"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    vision("CLIP").save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(WeightsError, match=said):
        load_tower(tmp_path)


def test_an_import_refuses_what_it_would_spoil(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clip(tmp_path / "clip")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/thesis.txt").write_text("do not lose")
    with pytest.raises(WeightsError, match="exists"):
        import_tower(str(tmp_path / "clip"), tmp_path / "there")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        import_tower(str(tmp_path / "clip"), tmp_path / "there", overwrite=True)
    with pytest.raises(UsageError, match="becomes a folder"):
        import_tower(str(tmp_path / "clip"), tmp_path / "t.safetensors")
    with pytest.raises(WeightsError, match="expected ab"):
        import_tower(str(tmp_path / "clip"), tmp_path / "t", expect_sha256="ab")
    assert main(["weights", "import", str(tmp_path / "clip"), str(tmp_path / "t"), "--anchors", "caffe"]) == 2
    assert "--anchors is given" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
    import_tower(str(tmp_path / "clip"), tmp_path / "t")
    import_tower(str(tmp_path / "clip"), tmp_path / "t", overwrite=True)


@pytest.mark.parametrize("source", ["clip", "clip/model.safetensors"])
def test_a_checkpoint_is_not_written_over_by_its_own_tower(tmp_path: Path, source: str) -> None:
    save_clip(tmp_path / "clip")
    before = (tmp_path / "clip/model.safetensors").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "clip")
    for out in ("clip", "link"):
        with pytest.raises(UsageError, match="the checkpoint itself"):
            import_tower(str(tmp_path / source), tmp_path / out, overwrite=True)
    assert (tmp_path / "clip/model.safetensors").read_bytes() == before


def test_a_tower_in_several_files_is_the_same_tower(tmp_path: Path) -> None:
    """Cut by transformers itself."""
    model = vision("CLIP")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert holds_tower(str(tmp_path))
    assert load_tower(tmp_path).origin.sha256 == tower_hash(model.state_dict())


@pytest.mark.parametrize("action", [["inspect"], ["import"]])
def test_what_is_no_detector_may_have_been_a_tower_without_its_config(
    tmp_path: Path, action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(vision("CLIP").state_dict(), tmp_path / "pytorch_model.bin")
    out = [str(tmp_path / "x.safetensors")] if action == ["import"] else []
    for place in (tmp_path, tmp_path / "nowhere"):
        assert main(["weights", *action, str(place), *out]) != 0
        assert "a vision tower is known by the config.json beside" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no connection")

    hub = SimpleNamespace(snapshot_download=unreachable, hf_hub_download=unreachable)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert main(["weights", "inspect", "some/model"]) != 0
    assert "some/model cannot be reached" in capsys.readouterr().err
