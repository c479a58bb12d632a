"""Weights that cannot be found, trusted or understood: one message each, naming the file and what to do."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from featx.errors import MissingDependency, WeightsError
from featx_extractors.weights import load_weights
from featx_extractors.weights.protobuf import WireError, fields
from tests import weights_forms as forms


@pytest.fixture(scope="session")
def arrays(shared: Path) -> forms.Arrays:
    return forms.reference(shared)


@pytest.fixture
def wanted(arrays: forms.Arrays) -> forms.Arrays:
    """A copy that a test may damage."""
    return {name: a.copy() for name, a in forms.without_counters(arrays).items()}


def refused(location: str | Path, *words: str, **options: Any) -> WeightsError:
    """The error of loading, which names the location, says ``words``, and ends with a hint."""
    with pytest.raises(WeightsError) as caught:
        load_weights(location, **options)
    error = caught.value
    assert str(location) in error.message
    assert error.hint
    assert error.exit_code == 2
    for word in words:
        assert word in str(error), str(error)
    return error


# --- not found --------------------------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist(tmp_path):
    refused(tmp_path / "nothing.pkl", "no weights file")
    refused("x" * 5000, "cannot be read")
    refused("weights/nothing.pkl", "no weights file")  # two words and a slash, but plainly a file name


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "holds no weights", "model.safetensors", "pytorch_model.bin")


def test_a_folder_with_two_candidates(tmp_path):
    for name in ("a.pkl", "b.pth"):
        (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, "a.pkl, b.pth", "name one of them")


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: what is on the hub, what is in the cache, and whether there is a network."""

    class EntryNotFoundError(Exception):
        pass

    class LocalEntryNotFoundError(EntryNotFoundError, FileNotFoundError):
        pass

    class RepositoryNotFoundError(Exception):  # not an OSError, as in some versions of the package
        pass

    def __init__(self, remote: dict[str, Path], cache: dict[str, Path] | None = None, *, online: bool = True) -> None:
        super().__init__("huggingface_hub")
        self.remote, self.cache, self.online, self.calls = remote, cache or {}, online, list[tuple[Any, ...]]()

    def hf_hub_download(self, repo: str, name: str, *, revision: str | None, local_files_only: bool) -> str:
        self.calls.append((repo, name, revision, local_files_only))
        if repo == "org/absent":
            raise self.RepositoryNotFoundError("404 Client Error\nRepository Not Found")
        if name in self.cache:
            return str(self.cache[name])
        if local_files_only or not self.online:
            raise self.LocalEntryNotFoundError("cannot find the requested files in the local cache")
        if name not in self.remote:
            raise self.EntryNotFoundError("404")
        return str(self.remote[name])


@pytest.fixture
def bin_file(tmp_path, arrays) -> Path:
    torch.save(forms.as_torch(arrays), tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


def test_a_hub_id_is_downloaded_with_its_config(monkeypatch, shared, bin_file, wanted):
    hub = FakeHub({"pytorch_model.bin": bin_file, "config.yaml": shared / "fixtures/frcnn/hf/config.yaml"})
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    weights = load_weights("unc-nlp/frcnn-vg-finetuned@abc123")
    assert weights.header.delta_weights_from == "config.yaml"
    assert "from the hub: unc-nlp/frcnn-vg-finetuned@abc123" in weights.header.notes
    np.testing.assert_array_equal(weights.tensors[forms.CELL].numpy(), wanted[forms.CELL])
    assert {call[0] for call in hub.calls} == {"unc-nlp/frcnn-vg-finetuned"}
    assert {call[2] for call in hub.calls} == {"abc123"}


def test_a_cached_hub_file_is_used_without_network(monkeypatch, bin_file):
    hub = FakeHub({}, {"pytorch_model.bin": bin_file}, online=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert load_weights("unc-nlp/frcnn-vg-finetuned").header.source == "pytorch_model.bin"
    assert [call[3] for call in hub.calls[:2]] == [False, True]  # one wait for the network is enough


@pytest.mark.parametrize("name", ["unc-nlp/frcnn-vg-finetuned", "org/absent"])
def test_an_unreachable_hub_id_names_itself_and_the_way_out(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub({}, online=False))
    refused(name, "cannot be reached", "local copy", "pytorch_model.bin")


def test_a_hub_id_that_holds_no_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub({}))
    refused("org/empty", "holds no model.safetensors or pytorch_model.bin")


def test_a_hub_id_without_the_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # makes the import fail
    with pytest.raises(MissingDependency, match="unc-nlp/frcnn-vg-finetuned") as caught:
        load_weights("unc-nlp/frcnn-vg-finetuned")
    assert caught.value.exit_code == 5
    assert "pip install" in caught.value.hint


def test_the_real_hub_package_offline(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused("unc-nlp/frcnn-vg-finetuned", "cannot be reached", "local copy")


# --- not the file -----------------------------------------------------------------------------------------------------


def test_a_hash_that_differs(tmp_path, wanted):
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "has the sha256", "expected " + "0" * 64, expect_sha256="0" * 64)


def test_a_hash_that_agrees_in_any_spelling(tmp_path, wanted):
    import hashlib

    save_file(wanted, tmp_path / "m.safetensors")
    digest = hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    header = load_weights(tmp_path / "m.safetensors", expect_sha256="sha256:" + digest.upper()).header
    assert header.source_sha256 == digest


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>503</html>", "web page"),
        (b"MZ\x90\x00 a program", "of no known kind"),
    ],
)
def test_files_that_are_no_weights_are_told_apart(tmp_path, data, words):
    for name in ("m.bin", "m.safetensors", "m.pkl"):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, words)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy.bin", "pkl", "pth", "caffemodel"])
@pytest.mark.parametrize("part", [0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file(tmp_path, arrays, kind, part):
    path = tmp_path / f"m.{kind}"
    if kind == "safetensors":
        save_file(arrays, path)
    elif kind == "pkl":
        path.write_bytes(forms.airsplay_pickle(arrays))
    elif kind == "caffemodel":
        path.write_bytes(forms.caffemodel(arrays))
    else:
        torch.save(forms.as_torch(arrays), path, _use_new_zipfile_serialization=kind != "legacy.bin")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, "copy")


# --- not these tensors ------------------------------------------------------------------------------------------------


def test_a_missing_tensor_is_named_with_its_shape(tmp_path, wanted):
    del wanted["backbone.res4.7.conv2.norm.running_var"]
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "1 missing (backbone.res4.7.conv2.norm.running_var [32])", "ResNet-101-C4")


def test_a_whole_missing_stage_is_missing_and_not_of_another_shape(tmp_path, wanted):
    left = {name: a for name, a in wanted.items() if not name.startswith("backbone.res3.")}
    save_file(left, tmp_path / "m.safetensors")
    error = refused(tmp_path / "m.safetensors", "20 missing", "backbone.res3.0.shortcut.weight [64, 32, 1, 1]")
    assert "another shape" not in error.message


def test_many_missing_tensors_are_counted_and_the_first_listed(tmp_path, wanted):
    for name in [n for n in wanted if n.startswith("backbone.res3.1.")]:
        del wanted[name]
    save_file(wanted, tmp_path / "m.safetensors")
    error = refused(tmp_path / "m.safetensors", "15 missing", "backbone.res3.1.conv1.weight", ", ...")
    assert len(str(error)) < 900


@pytest.mark.parametrize(
    "name",
    [
        "backbone.stem.conv1.weight",
        f"{forms.RPN}.anchor_deltas.bias",
        f"{forms.HEAD}.cls_score.weight",
        f"{forms.HEAD}.bbox_pred.bias",
        f"{forms.HEAD}.cls_embedding.weight",
        f"{forms.HEAD}.fc_attr.weight",
    ],
)
def test_a_missing_tensor_that_decides_a_size(tmp_path, wanted, name):
    del wanted[name]
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "missing", name)


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path, wanted):
    wanted["backbone.res2.1.conv2.weight"] = np.zeros((8, 2, 3, 3), np.float32)  # as in a ResNeXt
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "backbone.res2.1.conv2.weight is [8, 2, 3, 3], expected [8, 8, 3, 3]")


@pytest.mark.parametrize("shape", [(15, 4, 1), (60,), (), (14, 4)])
def test_anchors_of_a_wrong_shape(tmp_path, wanted, shape):
    wanted[forms.CELL] = np.zeros(shape, np.float32)
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", f"cell_anchors.0 is {list(shape)}, expected [15, 4]")


def test_an_unexpected_tensor(tmp_path, wanted):
    wanted["roi_heads.something.weight"] = np.zeros(1, np.float32)
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "1 unexpected (roi_heads.something.weight)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(tmp_path, wanted, value):
    wanted["backbone.res2.0.conv1.weight"][3, 2] = value
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "backbone.res2.0.conv1.weight", "NaN")


def test_a_negative_variance(tmp_path, wanted):
    wanted["backbone.stem.conv1.norm.running_var"][0] = -1
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "backbone.stem.conv1.norm.running_var", "negative variance")


def test_quantised_tensors(tmp_path, wanted):
    wanted["backbone.res2.0.conv1.weight"] = wanted["backbone.res2.0.conv1.weight"].astype(np.int8)
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "backbone.res2.0.conv1.weight is int8")


def test_class_agnostic_boxes(tmp_path, wanted):
    for leaf in ("weight", "bias"):
        wanted[f"{forms.HEAD}.bbox_pred.{leaf}"] = wanted[f"{forms.HEAD}.bbox_pred.{leaf}"][:4]
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "bbox_pred has 4 rows", "484", "480", "class-agnostic")


def test_objectness_that_is_neither_single_nor_paired(tmp_path, wanted):
    wanted[f"{forms.RPN}.objectness_logits.bias"] = np.zeros(16, np.float32)
    save_file(wanted, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "objectness_logits has 16 rows", "expected 15 or 30")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("backbone.stem.norm.weight", "pre-activation ResNet-152"),
        ("roi_heads.res5_bn.weight", "pre-activation ResNet-152"),
        ("roi_heads.attribute_predictor.obj_embed.weight", "attribute head has another form"),
    ],
)
def test_milvlg_variants_that_are_not_supported(tmp_path, wanted, name, words):
    torch.save({"model": forms.as_torch(wanted | {name: np.zeros(3, np.float32)})}, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", words)


def test_a_checkpoint_of_an_unknown_layout(tmp_path):
    torch.save({"module.backbone.body.stem.conv1.weight": torch.zeros(2)}, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "of no known layout", "module.backbone.body.stem.conv1.weight", "MILVLG")


@pytest.mark.parametrize("state", [torch.zeros(3), [torch.zeros(3)], {}, {3: torch.zeros(3)}])
def test_a_torch_file_without_state_dict(tmp_path, state):
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "no state dict")


def test_a_caffemodel_may_start_like_another_container(tmp_path, arrays):
    for start in (b"<" * 60, b"abcdef{" + b"x" * 40):  # the network's name, behind its tag and length
        (tmp_path / "m.caffemodel").write_bytes(forms.field(1, start) + forms.caffemodel(arrays))
        assert load_weights(tmp_path / "m.caffemodel").header.layout == "caffe"


def test_a_caffemodel_of_another_network(tmp_path):
    data = forms.layer("conv1_1", "Convolution", [np.zeros((2, 3, 3, 3), np.float32)])
    (tmp_path / "vgg16.caffemodel").write_bytes(data)
    refused(tmp_path / "vgg16.caffemodel", "another network", "conv1_1")


def test_a_caffemodel_whose_statistics_were_never_accumulated(tmp_path, arrays):
    (tmp_path / "m.caffemodel").write_bytes(forms.caffemodel(arrays, factor=0.0))
    refused(tmp_path / "m.caffemodel", "bn_conv1", "never accumulated")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "ROI_BOX_HEAD: {BBOX_REG_WEIGHTS: [1, 2]}",
        "ANCHOR_GENERATOR: {SIZES: x}",
        "ANCHOR_GENERATOR: {SIZES: [[32]], ASPECT_RATIOS: [[0.5, 0]]}",
        "RPN: {BBOX_REG_WEIGHTS: [.nan, 1, 1, 1]}",
    ],
)
def test_a_config_that_cannot_be_used(tmp_path, wanted, text):
    save_file(wanted, tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(WeightsError, match="config"):
        load_weights(tmp_path)


def test_a_config_cannot_construct_objects(tmp_path, wanted):
    save_file(wanted, tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").write_text("a: !!python/object/apply:os.mkdir [pwned]")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(tmp_path)
    assert not (Path.cwd() / "pwned").exists()


# --- not to be trusted ------------------------------------------------------------------------------------------------


class Runs:
    """Unpickles into a call of os.mkdir."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, arrays, protocol):
    marker, path = tmp_path / "pwned", tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"model": {**arrays, "x": Runs(marker)}}, protocol))
    refused(path, f"{os.mkdir.__module__}.mkdir", "nothing of it was executed")
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("new", [True, False])
def test_a_malicious_torch_file_is_refused_and_does_not_run(tmp_path, arrays, new):
    marker, path = tmp_path / "pwned", tmp_path / "pytorch_model.bin"
    state = {**forms.as_torch(arrays), "x": Runs(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=new)
    refused(path, "mkdir", "nothing of it was executed")
    assert not marker.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(Vprint()\ntR.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x16numpy.core.multiarray\x8c\x1c_reconstruct.__globals__.get\x93.",
        b"ctorch._utils\n_rebuild_tensor_v2\n.",
        b"ccollections\nOrderedDict.__init__\n.",
        b"\x80\x02P0\n.",
    ],
)
def test_a_pickle_that_reaches_for_other_names_is_refused(tmp_path, code):
    (tmp_path / "m.pkl").write_bytes(code)
    refused(tmp_path / "m.pkl")


def test_an_array_of_objects_is_refused(tmp_path, arrays):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": {"x": np.array([{}], object)}}, 3))
    refused(tmp_path / "m.pkl", "dtype 'O8'")


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    honest = pickle.dumps({"model": {"x": np.zeros(77, np.float32)}}, 3)
    assert honest.count(b"KM\x85") == 1  # the shape (77,)
    (tmp_path / "m.pkl").write_bytes(honest.replace(b"KM\x85", b"J\xff\xff\xff\x7f\x85"))
    refused(tmp_path / "m.pkl", "[2147483647] has 308 bytes")


def test_an_array_made_of_a_number_is_refused(tmp_path):
    honest = pickle.dumps({"model": {"x": np.zeros(8, np.uint8)}}, 3)
    assert honest.count(b"C\x08" + bytes(8)) == 1  # the bytes
    # bytes(2**31 - 1) would be two gigabytes of zeros
    (tmp_path / "m.pkl").write_bytes(honest.replace(b"C\x08" + bytes(8), b"J\xff\xff\xff\x7f"))
    refused(tmp_path / "m.pkl", "without bytes")


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path, wanted):
    state = forms.as_torch(wanted) | {"backbone.stem.conv1.weight": torch.zeros(1).expand(10**7, 10**7)}
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "backbone.stem.conv1.weight", "only 4 bytes")


@pytest.mark.parametrize("value", [torch.eye(2).to_sparse(), torch.empty(2, device="meta"), 3, torch.zeros(2) + 1j])
def test_a_tensor_of_another_kind_is_refused(tmp_path, value):
    torch.save({"backbone.stem.conv1.weight": value}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match=r"m\.pth"):
        load_weights(tmp_path / "m.pth")


def test_no_pickle_changes_how_the_next_one_is_read(tmp_path, arrays):
    # BUILD with a slot state sets attributes on whatever lies on the stack, here on the stand-in for numpy.ndarray.
    attack = b"cnumpy\nndarray\n(N(dV__setstate__\nccollections\nOrderedDict\nstb."
    (tmp_path / "a.pkl").write_bytes(attack)
    refused(tmp_path / "a.pkl")
    (tmp_path / "m.pkl").write_bytes(forms.airsplay_pickle(arrays))
    assert load_weights(tmp_path / "m.pkl").header.classes == 120


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x05abc", "5 bytes announced at byte 2, 3 left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc", "announced"),
        (b"\x08\x80\x80", "not a number at byte 1"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "not a number at byte 1"),
        (b"\x0d\x00\x00", "4 bytes announced"),
        (b"\x09\x00", "8 bytes announced"),
        (b"\x0b", "wire type 3"),
    ],
)
def test_lengths_on_the_wire_are_checked(data: bytes, words: str):
    with pytest.raises(WireError, match=words):
        list(fields(memoryview(data)))


def test_a_blob_whose_shape_and_values_disagree(tmp_path):
    values = forms.field(5, np.zeros(3, "<f4").tobytes()) + forms.field(7, forms.field(1, bytes([2, 2])))
    data = forms.field(100, forms.field(1, b"conv1") + forms.field(7, values))
    (tmp_path / "m.caffemodel").write_bytes(data)
    refused(tmp_path / "m.caffemodel", "a blob of shape [2, 2] has 3 values")


def test_a_caffe_layer_that_occurs_twice(tmp_path):
    once = forms.layer("conv1", "Convolution", [np.zeros((2, 3, 7, 7), np.float32)])
    (tmp_path / "m.caffemodel").write_bytes(once + once)
    refused(tmp_path / "m.caffemodel", "layer 'conv1' occurs twice")


def test_a_caffe_layer_with_a_blob_too_many(tmp_path):
    blobs = [np.zeros((2, 3, 7, 7), np.float32), np.zeros(2, np.float32)]
    (tmp_path / "m.caffemodel").write_bytes(forms.layer("conv1", "Convolution", blobs))
    refused(tmp_path / "m.caffemodel", "layer conv1 has 2 blobs, expected 1")


# --- damage at random -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes):
    with contextlib.suppress(WireError):
        assert sum(1 for _ in fields(memoryview(data))) <= len(data)


def test_damaged_bytes_of_every_container_end_in_weights_error_or_weights(tmp_path):
    rng = np.random.default_rng(3)
    small = {"backbone.stem.conv1.weight": np.ones((2, 3, 7, 7), np.float32), "backbone.x": np.ones(3, np.float32)}
    buffer = io.BytesIO()
    torch.save(forms.as_torch(small), buffer)
    save_file(small, tmp_path / "whole.safetensors")
    samples = {
        "pkl": forms.airsplay_pickle(small),
        "bin": buffer.getvalue(),
        "safetensors": (tmp_path / "whole.safetensors").read_bytes(),
        "caffemodel": forms.layer("conv1", "Convolution", [small["backbone.stem.conv1.weight"]]),
    }
    for kind, data in samples.items():
        path = tmp_path / f"m.{kind}"
        head = min(len(data), 400)  # where structure is, rather than values
        for _ in range(150):
            damaged = bytearray(data)
            for at in rng.integers(0, head, 2):
                damaged[at] = rng.integers(0, 256)
            path.write_bytes(damaged)
            with pytest.raises(WeightsError):  # even undamaged, these lack most tensors
                load_weights(path)
