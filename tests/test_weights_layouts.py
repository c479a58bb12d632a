"""Every published layout gives the same normal form, tensor for tensor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from featx.errors import WeightsError
from featx_extractors.profiles import PROFILES
from featx_extractors.weights import Weights, import_weights, load_weights
from featx_extractors.weights.detect import PROFILES as SUGGESTED
from tests import weights_forms as forms


@pytest.fixture(scope="session")
def arrays(shared: Path) -> forms.Arrays:
    return forms.reference(shared)


@pytest.fixture(scope="session")
def wanted(arrays: forms.Arrays) -> forms.Arrays:
    return forms.without_counters(arrays)


@pytest.fixture(scope="session")
def caffe_cell(shared: Path) -> np.ndarray:
    """The 15 anchors of Caffe's own generator, scales 2 to 32."""
    return np.load(shared / "fixtures/frcnn/ops/anchors.npz")["legacy_cell_2_32"].astype(np.float32)


def same(weights: Weights, wanted: forms.Arrays) -> None:
    assert set(weights.tensors) == set(wanted)
    for name, array in wanted.items():
        found = weights.tensors[name]
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        np.testing.assert_array_equal(found.numpy(), array, err_msg=name)


def folder(path: Path, shared: Path, *, config: bool = True) -> Path:
    path.mkdir()
    if config:
        shutil.copy(shared / "fixtures/frcnn/hf/config.yaml", path)
    return path


def test_a_hugging_face_folder_with_a_torch_file(tmp_path, shared, arrays, wanted):
    place = folder(tmp_path / "frcnn", shared)
    torch.save(forms.as_torch(arrays), place / "pytorch_model.bin")
    weights = load_weights(str(place))
    same(weights, wanted)
    header = weights.header
    assert (header.layout, header.source) == ("huggingface", "pytorch_model.bin")
    assert (header.classes, header.attribute_classes, header.anchors) == (120, 40, "detectron2")
    assert (header.delta_weights, header.delta_weights_from) == ((10, 10, 5, 5), "config.yaml")
    assert header.trained
    assert not header.legacy_plus_one
    assert header.config["max_pool"] is True
    assert header.config["min_size"] == 192
    assert not [note for note in header.notes if "followed" in note]  # config.yaml and tensors agree


def test_the_file_format_of_old_torch(tmp_path, arrays, wanted):
    torch.save(forms.as_torch(arrays), tmp_path / "m.bin", _use_new_zipfile_serialization=False)
    same(load_weights(tmp_path / "m.bin"), wanted)


def test_a_bin_file_that_is_a_plain_pickle_of_arrays(tmp_path, shared, arrays, wanted):
    place = folder(tmp_path / "frcnn", shared)
    (place / "pytorch_model.bin").write_bytes(forms.airsplay_pickle(arrays))
    weights = load_weights(place)
    same(weights, wanted)
    assert weights.header.delta_weights_from == "config.yaml"


def test_safetensors_in_the_hugging_face_layout(tmp_path, shared, arrays, wanted):
    place = folder(tmp_path / "frcnn", shared, config=False)
    save_file(arrays, place / "model.safetensors")
    torch.save({}, place / "pytorch_model.bin")  # the safer of the two is read
    weights = load_weights(place)
    same(weights, wanted)
    assert weights.header.delta_weights == (10, 10, 5, 5)
    assert weights.header.delta_weights_from == "detected from the norm of bbox_pred"


def test_old_names_gamma_and_beta(tmp_path, arrays, wanted):
    old = {n.replace("norm.weight", "norm.gamma").replace("norm.bias", "norm.beta"): a for n, a in arrays.items()}
    save_file(old, tmp_path / "m.safetensors")
    same(load_weights(tmp_path / "m.safetensors"), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32_and_are_noted(tmp_path, wanted, dtype):
    cast = {name: t.to(dtype) for name, t in forms.as_torch(wanted).items()}
    save_torch(cast, tmp_path / "m.safetensors")
    weights = load_weights(tmp_path / "m.safetensors")
    same(weights, {name: t.float().numpy() for name, t in cast.items()})
    assert dtype == torch.bfloat16 or any("float32" in note for note in weights.header.notes)


@pytest.mark.parametrize(("protocol", "old_numpy"), [(2, True), (3, True), (3, False), (4, False), (5, False)])
def test_an_airsplay_pickle(tmp_path, arrays, wanted, protocol, old_numpy):
    path = tmp_path / "faster_rcnn_from_caffe_attr.pkl"
    path.write_bytes(forms.airsplay_pickle(arrays, protocol=protocol, old_numpy=old_numpy))
    weights = load_weights(path)
    same(weights, wanted)
    assert weights.header.layout == "airsplay"


def test_arrays_in_fortran_order_and_big_endian_are_read_as_written(tmp_path, arrays, wanted):
    odd = {n: np.asfortranarray(a).astype(">f4") for n, a in forms.without_counters(arrays).items()}
    (tmp_path / "m.pkl").write_bytes(forms.airsplay_pickle(odd))
    same(load_weights(tmp_path / "m.pkl"), wanted)


def test_a_pickle_without_attributes(tmp_path, arrays, wanted):
    plain = {n: a for n, a in wanted.items() if not any(h in n for h in ("cls_embedding", "fc_attr", "attr_score"))}
    (tmp_path / "faster_rcnn_from_caffe.pkl").write_bytes(forms.airsplay_pickle(plain))
    weights = load_weights(tmp_path / "faster_rcnn_from_caffe.pkl")
    same(weights, plain)
    assert weights.architecture.attributes == 0
    assert weights.header.attributes is None


def test_a_detectron2_checkpoint_without_anchors(tmp_path, shared):
    place = shared / "fixtures/frcnn/d2"
    weights = load_weights(place)
    plain = forms.without_counters(forms.load_file(place / "weights.safetensors"))
    anchors = np.load(shared / "fixtures/frcnn/ops/anchors.npz")
    same(weights, plain | {forms.CELL: anchors["cell_32_512"]})
    header = weights.header
    assert (header.layout, header.classes, header.attribute_classes) == ("detectron2", 60, 0)
    assert any("config.yaml" in note for note in header.notes)

    save_file(plain, tmp_path / "m.safetensors")  # without config.yaml: detectron2's default, and the note says so
    assert any("default" in note for note in load_weights(tmp_path / "m.safetensors").header.notes)


def test_a_detectron2_training_checkpoint_with_a_mask_head(tmp_path, wanted):
    extra = {"pixel_mean": np.zeros((3, 1, 1), np.float32), "roi_heads.mask_head.deconv.bias": np.zeros(2, np.float32)}
    state = {"model": forms.as_torch(wanted | extra), "optimizer": {"state": {}, "lr": 0.1}, "iteration": 9}
    torch.save(state, tmp_path / "model_final.pth")
    weights = load_weights(tmp_path / "model_final.pth")
    same(weights, wanted)
    assert any("mask_head" in note for note in weights.header.notes)


def test_the_detectron2_zoo_is_told_by_its_author(tmp_path, arrays):
    (tmp_path / "m.pkl").write_bytes(forms.airsplay_pickle(arrays, author="Detectron2 Model Zoo"))
    assert load_weights(tmp_path / "m.pkl").header.layout == "detectron2"


def test_a_milvlg_checkpoint(tmp_path, arrays, wanted):
    torch.save({"model": forms.as_torch(forms.milvlg(arrays))}, tmp_path / "bua-caffe-frcn-r101-k36.pth")
    weights = load_weights(tmp_path / "bua-caffe-frcn-r101-k36.pth")
    same(weights, wanted)
    assert (weights.header.layout, weights.header.delta_weights) == ("milvlg", (1, 1, 1, 1))
    assert any("first, moved" in note for note in weights.header.notes)


@pytest.mark.parametrize("form", [{}, {"old": True}, {"double": True}])
def test_a_caffemodel(tmp_path, arrays, wanted, caffe_cell, form):
    path = tmp_path / "resnet101_faster_rcnn_final.caffemodel"
    path.write_bytes(forms.caffemodel(arrays, **form))
    weights = load_weights(path)
    same(weights, wanted | {forms.CELL: caffe_cell})
    header = weights.header
    assert (header.layout, header.anchors, header.legacy_plus_one) == ("caffe", "caffe", True)
    assert (header.delta_weights, header.delta_weights_from) == ((1, 1, 1, 1), "layout")
    assert any("rel_heatmap" in note for note in header.notes)
    assert any("suggests 10,10,5,5" in note for note in header.notes)  # true: these deltas were not folded


def test_deltas_with_the_deviations_folded_in_are_recognised(tmp_path, wanted):
    deviations = np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), 120)
    name = f"{forms.HEAD}.bbox_pred"
    folded = wanted | {
        f"{name}.weight": wanted[f"{name}.weight"] * deviations[:, None],
        f"{name}.bias": wanted[f"{name}.bias"] * deviations,
    }
    save_file(folded, tmp_path / "m.safetensors")
    header = load_weights(tmp_path / "m.safetensors").header
    assert (header.delta_weights, header.delta_weights_from) == ((1, 1, 1, 1), "detected from the norm of bbox_pred")

    stated = load_weights(tmp_path / "m.safetensors", delta_weights=(10, 10, 5, 5)).header
    assert (stated.delta_weights, stated.delta_weights_from) == ((10, 10, 5, 5), "given")
    assert any("suggests 1,1,1,1" in note for note in stated.notes)


def test_anchors_are_recognised_in_any_order(tmp_path, wanted, caffe_cell):
    order = np.arange(15).reshape(3, 5).T.ravel()
    save_file(wanted | {forms.CELL: caffe_cell[order]}, tmp_path / "m.safetensors")
    header = load_weights(tmp_path / "m.safetensors").header
    assert (header.anchors, header.legacy_plus_one) == ("caffe", True)

    save_file(wanted | {forms.CELL: caffe_cell + 1}, tmp_path / "m.safetensors")
    assert load_weights(tmp_path / "m.safetensors").header.anchors == "other"


def test_missing_anchors_are_asked_for_and_not_guessed(tmp_path, wanted, caffe_cell):
    bare = {name: a for name, a in wanted.items() if name != forms.CELL}
    path = tmp_path / "m.safetensors"
    save_file(bare, path)
    with pytest.raises(WeightsError, match=r"does not store its 15 anchors") as caught:
        load_weights(path)
    assert "--anchors" in caught.value.hint
    same(load_weights(path, anchors="caffe"), wanted | {forms.CELL: caffe_cell})

    save_file(wanted, path)
    with pytest.raises(WeightsError, match="stores detectron2 anchors, but caffe"):
        load_weights(path, anchors="caffe")


def test_contradictions_of_config_yaml_are_reported(tmp_path, shared, wanted, caffe_cell):
    place = folder(tmp_path / "frcnn", shared)
    text = (place / "config.yaml").read_text().replace("NUM_CLASSES: 120", "NUM_CLASSES: 1600")
    (place / "config.yaml").write_text(text)
    save_file(wanted | {forms.CELL: caffe_cell}, place / "model.safetensors")
    notes = load_weights(place).header.notes
    assert any("classes 1600" in note and "120" in note for note in notes)
    assert any("stored anchors" in note for note in notes)


def test_a_config_in_detectron2s_own_spelling(tmp_path, wanted):
    save_file(wanted, tmp_path / "model.safetensors")
    text = (
        "MODEL:\n  ROI_BOX_HEAD:\n    BBOX_REG_WEIGHTS: (2.0, 2.0, 1.0, 1.0)\n  RPN: {BBOX_REG_WEIGHTS: [3, 3, 3, 3]}\n"
    )
    (tmp_path / "config.yaml").write_text(text)
    header = load_weights(tmp_path).header
    assert (header.delta_weights, header.rpn_delta_weights) == ((2, 2, 1, 1), (3, 3, 3, 3))


def test_one_checkpoint_has_one_identity_in_every_layout(tmp_path, arrays, wanted):
    save_file(arrays, tmp_path / "a.safetensors")
    (tmp_path / "b.pkl").write_bytes(forms.airsplay_pickle(arrays))
    torch.save({"model": forms.as_torch(forms.milvlg(arrays))}, tmp_path / "c.pth")
    headers = [load_weights(tmp_path / name).header for name in ("a.safetensors", "b.pkl", "c.pth")]
    assert len({header.sha256 for header in headers}) == 1
    assert len({header.source_sha256 for header in headers}) == len({header.fingerprint for header in headers}) == 3


def test_import_writes_what_load_reads(tmp_path, arrays, wanted):
    source, out = tmp_path / "m.pkl", tmp_path / "out.safetensors"
    source.write_bytes(forms.airsplay_pickle(arrays))
    report = import_weights(source, out, profile="lxmert-published")
    weights = load_weights(out)
    same(weights, wanted)
    assert weights.header.profile == report["header"]["profile"] == "lxmert-published"
    assert weights.header.source == "m.pkl"
    json.dumps(report)


@pytest.mark.parametrize("layout", SUGGESTED)
def test_every_suggested_profile_exists(layout: str):
    assert SUGGESTED[layout] in PROFILES


def test_other_depths_and_widths_are_read_from_the_shapes(tmp_path, wanted):
    deeper = dict(wanted)
    for name, array in wanted.items():
        if name.startswith("backbone.res4.22."):
            for block in range(23, 36):
                deeper[name.replace("res4.22.", f"res4.{block}.")] = array
        if name.startswith("backbone.res3.3."):
            for block in range(4, 8):
                deeper[name.replace("res3.3.", f"res3.{block}.")] = array
    save_file(deeper, tmp_path / "m.safetensors")
    architecture = load_weights(tmp_path / "m.safetensors").architecture
    assert (architecture.depth, architecture.dim, architecture.stem) == (152, 256, 16)
