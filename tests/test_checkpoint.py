"""Checkpoints: flax files made byte by byte, the tower within a checkpoint, and the way into a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featx.checkpoint.fill import fill
from featx.checkpoint.place import locate
from featx.checkpoint.tensors import read_tensors
from featx.checkpoint.tower import tower_hash, tower_of, without_tower
from featx.errors import WeightsError

FLAX = ["clip_vision_bert/vqa", "clip_vision_bert/mlm", "clip_vision_mbart"]


def text(value: str) -> bytes:
    return bytes([0xA0 + len(value)]) + value.encode()


def array(values: np.ndarray[Any, Any], dtype: str = "") -> bytes:
    """An extension of type 1 around [shape, name of the dtype, bytes], as flax.serialization documents it."""
    shape = bytes([0x90 + values.ndim]) + bytes(values.shape)
    raw = values.tobytes()
    payload = b"\x93" + shape + text(dtype or values.dtype.name) + b"\xc4" + bytes([len(raw)]) + raw
    return b"\xc7" + bytes([len(payload)]) + b"\x01" + payload


def mapping(**entries: bytes) -> bytes:
    return bytes([0x80 + len(entries)]) + b"".join(text(k) + v for k, v in entries.items())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_kernels_get_the_axes_of_torch_and_names_its_words(tmp_path: Path) -> None:
    dense, conv = np.arange(6, dtype="f4").reshape(2, 3), np.arange(24, dtype="f4").reshape(2, 2, 3, 2)
    one = np.float32([1, 2])
    content = mapping(
        a=mapping(dense=mapping(kernel=array(dense), bias=array(one)), norm=mapping(scale=array(one))),
        words=mapping(embedding=array(dense)), conv=mapping(kernel=array(conv)), class_embedding=array(one),
    )  # fmt: skip
    found = read_tensors(written(tmp_path / "flax_model.msgpack", content))
    assert found["a.dense.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["words.weight"].tolist() == dense.tolist()
    assert found["a.dense.bias"].tolist() == found["a.norm.weight"].tolist() == found["class_embedding"].tolist()
    assert found["conv.weight"].shape == (2, 3, 2, 2)
    assert found["conv.weight"][1, 2, 0, 1] == conv[0, 1, 2, 1]


def test_half_precision_and_arrays_in_pieces_are_read(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000], "u2")  # 1 and -2 in bfloat16
    chunked = mapping(
        __msgpack_chunked_array__=b"\xc3",
        shape=bytes([0x82]) + text("0") + b"\x02" + text("1") + b"\x02",
        chunks=bytes([0x82]) + text("0") + array(np.float32([1, 2, 3])) + text("1") + array(np.float32([4])),
    )
    path = written(tmp_path / "x.msgpack", mapping(half=array(bits, "bfloat16"), bias=chunked))
    # "__msgpack_chunked_array__" is longer than 15 letters, and still a short string: up to 31
    found = read_tensors(path)
    assert found["half"].tolist() == [1, -2]
    assert found["bias"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        mapping(a=b"\x05"),
        mapping(a=b"\xc7\x03\x02abc"),
        mapping(a=array(np.float32([1]), "object")),
        mapping(a=array(np.float32([1, 2]))[:-3]),
        mapping(),
        b"\x93\x01\x02\x03",
        mapping(__msgpack_chunked_array__=b"\xc3", shape=mapping(), chunks=mapping()),
    ],
)
def test_what_is_no_flax_checkpoint_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WeightsError, match=r"x\.msgpack"):
        read_tensors(written(tmp_path / "x.msgpack", content))


@pytest.mark.parametrize("name", FLAX)
def test_published_forms_have_every_tensor_with_its_values(shared: Path, name: str) -> None:
    folder = shared / "fixtures/consumers" / name
    told = json.loads((folder / "parameter_shapes.json").read_bytes())
    found = read_tensors(folder / "flax_model.msgpack")
    assert len(found) == len(told)
    for parameter, facts in told.items():
        *parts, last = parameter.split("/")
        last = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(last, last)
        tensor = found[".".join([*parts, last])]
        assert sorted(tensor.shape) == sorted(facts["shape"])
        np.testing.assert_allclose(tensor.double().sum(), facts["sum"], rtol=1e-6, atol=1e-6)


def tower(dim: int = 2) -> dict[str, torch.Tensor]:
    return {
        "embeddings.patch_embedding.weight": torch.arange(12.0).reshape(dim, 3, 1, 2)[:dim],
        "post_layernorm.bias": torch.tensor([1.0, 2.0]),
    }


def test_a_tower_is_found_by_its_patch_embedding() -> None:
    whole = {f"vle.vision_model.vision_model.{name}": value for name, value in tower().items()}
    whole |= {"vle.vision_model.vision_model.embeddings.position_ids": torch.arange(3), "head.bias": torch.zeros(1)}
    found = tower_of(whole)
    assert {n: t.tolist() for n, t in found.items()} == {n: t.tolist() for n, t in tower().items()}
    assert list(without_tower(whole)) == ["head.bias"]
    assert tower_of({"head.bias": torch.zeros(1)}) == {}
    with pytest.raises(WeightsError, match="2 vision towers"):
        tower_of({**whole, "other.embeddings.patch_embedding.weight": torch.zeros(1)})


def test_the_hash_of_a_tower_is_that_of_its_names_shapes_and_values() -> None:
    first, second = tower()["embeddings.patch_embedding.weight"], struct.pack("<2f", 1, 2)
    told = b"embeddings.patch_embedding.weight [2, 3, 1, 2]\n" + first.numpy().tobytes()
    wanted = hashlib.sha256(told + b"post_layernorm.bias [2]\n" + second).hexdigest()
    assert tower_hash(tower()) == wanted
    assert tower_hash({n: t.half() for n, t in tower().items()}) == wanted, "these values are exact in half precision"
    assert tower_hash({**tower(), "post_layernorm.bias": torch.tensor([2.0, 1.0])}) != wanted


def test_a_network_takes_all_tensors_or_none() -> None:
    layer = nn.Linear(2, 1)
    fill(layer, {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}, "x")
    assert layer(torch.tensor([[1.0, 1.0]])).item() == 6
    for tensors, fault in (
        ({"bias": torch.zeros(1)}, "x lacks weight"),
        ({"weight": torch.zeros(1, 2), "bias": torch.zeros(1), "more": torch.zeros(1)}, "x has, and the network has"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(1)}, "x has in another shape weight"),
    ):
        with pytest.raises(WeightsError, match=fault):
            fill(layer, tensors, "x")


def sharded(folder: Path, name: str, parts: list[dict[str, torch.Tensor]]) -> Path:
    """Files and index as transformers' save_pretrained lays them out; the index."""
    files = {}
    for i, part in enumerate(parts, 1):
        stem, _, suffix = name.rpartition(".")
        file = f"{stem}-{i:05}-of-{len(parts):05}.{suffix}"
        save_file(part, folder / file) if suffix == "safetensors" else torch.save(part, folder / file)
        files.update(dict.fromkeys(part, file))
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    return index


PARTS = [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}, {"c": torch.tensor([4.0])}]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_are_one_checkpoint(tmp_path: Path, name: str) -> None:
    index = sharded(tmp_path, name, PARTS)
    assert locate(tmp_path).weights == locate(index).weights == index
    assert {n: t.tolist() for n, t in read_tensors(index).items()} == {"a": [1, 2], "b": [3], "c": [4]}


def test_an_index_without_its_files_or_tensors_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path, "model.safetensors", PARTS)
    last = tmp_path / "model-00002-of-00002.safetensors"
    for part, fault in (
        ({"d": torch.ones(1)}, "names c"),
        ({"a": torch.ones(1)}, "a is in"),
        (None, "1 of the 2 files"),
    ):
        last.unlink() if part is None else save_file(part, last)
        with pytest.raises(WeightsError, match=fault):
            read_tensors(index)
    for files in ({"a": "../secret.safetensors"}, {"a": 3}, {}, ["a"]):
        index.write_text(json.dumps({"weight_map": files}))
        with pytest.raises(WeightsError, match="no weight_map"):
            read_tensors(index)


def test_of_a_hub_id_the_index_is_fetched_and_then_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "hub", tmp_path / "cache"
    there.mkdir()
    here.mkdir()
    sharded(there, "model.safetensors", PARTS)
    (there / "unwanted.safetensors").write_bytes(b"")

    def snapshot(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        for name in allow_patterns:
            if (there / name).is_file():
                shutil.copy(there / name, here / name)
        return str(here)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot))
    place = locate("some/model")
    assert place.weights is not None
    assert sorted(read_tensors(place.weights)) == ["a", "b", "c"]
    assert not (here / "unwanted.safetensors").exists()


def test_a_file_of_something_else_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("What is this?")
    with pytest.raises(WeightsError, match=r"q\.txt is no file of weights"):
        locate(tmp_path / "q.txt")
