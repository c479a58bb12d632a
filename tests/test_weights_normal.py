"""The normal form: what is written is read back, and what was changed since is noticed."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from featx.errors import UsageError, WeightsError
from featx_extractors.weights import (
    TINY,
    Header,
    Weights,
    import_weights,
    inspect_weights,
    load_weights,
    read_normal,
    seeded_weights,
    write_normal,
)
from tests import weights_forms as forms


@pytest.fixture(scope="module")
def tiny() -> Weights:
    return seeded_weights(TINY, 4)


@pytest.fixture
def stored(tmp_path: Path, tiny: Weights) -> Path:
    write_normal(tiny, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header inside a safetensors file, by hand: 8 bytes of length, JSON, values."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    outer = json.loads(data[8 : 8 + size])
    header = json.loads(outer["__metadata__"]["featx"])
    change(header)
    outer["__metadata__"]["featx"] = json.dumps(header)
    packed = json.dumps(outer).encode()
    packed += b" " * (-len(packed) % 8)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + data[8 + size :])


def test_weights_survive_writing_and_reading(stored: Path, tiny: Weights):
    found = read_normal(stored)
    assert found.header == tiny.header
    assert found.header.fingerprint == tiny.header.fingerprint
    assert set(found.tensors) == set(tiny.tensors)
    assert all(found.tensors[name].equal(tensor) for name, tensor in tiny.tensors.items())
    assert load_weights(stored).header == tiny.header


def test_equal_weights_are_equal_bytes(stored: Path, tiny: Weights, tmp_path: Path):
    write_normal(read_normal(stored), tmp_path / "again.safetensors")
    assert stored.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_file_has_the_permissions_of_any_new_file(stored: Path, tmp_path: Path):
    (tmp_path / "plain").touch()
    assert stored.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_header_is_canonical_json_in_the_metadata(stored: Path):
    with safe_open(stored, "np") as file:
        text = file.metadata()["featx"]
    data = json.loads(text)
    assert data["format"] == 1
    assert text == json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == read_normal(stored).header.fingerprint


def test_the_identity_is_a_hash_anybody_can_compute(stored: Path):
    digest = hashlib.sha256()
    with safe_open(stored, "np") as file:
        for name in sorted(file.keys()):
            array = file.get_tensor(name)
            digest.update(name.encode() + b"\0" + str(list(array.shape)).encode() + b"\0" + array.tobytes())
    assert digest.hexdigest() == read_normal(stored).header.sha256


def test_one_flipped_bit_is_noticed(stored: Path):
    data = bytearray(stored.read_bytes())
    data[-1001] ^= 1
    stored.write_bytes(data)
    with pytest.raises(WeightsError, match="the header says sha256") as caught:
        read_normal(stored)
    assert "import" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(format=2), "format 2"),
        (lambda h: h.pop("format"), "damaged header"),
        (lambda h: h.pop("profile"), "damaged header"),
        (lambda h: h.update(extra=1), "damaged header"),
        (lambda h: h.update(delta_weights=[1, 2, 3]), "damaged header"),
        (lambda h: h.update(delta_weights=[0, 1, 1, 1]), "damaged header"),
        (lambda h: h.update(delta_weights="abcd"), "damaged header"),
        (lambda h: h.update(trained="yes"), "damaged header: trained is 'yes'"),
        (lambda h: h.update(objects=[1, 2]), "damaged header"),
        (lambda h: h.update(classes=True), "damaged header"),
        (lambda h: h.update(config=[]), "damaged header"),
        (lambda h: h.update(notes=None), "damaged header"),
        (lambda h: h.clear(), "damaged header"),
        (lambda h: h.update(classes=41), "the header says classes 41, the tensors give 40"),
        (lambda h: h.update(attribute_classes=3), "the header says attribute_classes 3"),
        (lambda h: h["objects"].pop(), "the header says objects 39"),
        (lambda h: h.update(anchors_sha256="0"), "the header says anchors_sha256"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(stored: Path, change: Callable[[dict[str, Any]], Any], words: str):
    rewrite(stored, change)
    with pytest.raises(WeightsError, match=words) as caught:
        read_normal(stored)
    assert str(stored) in caught.value.message


def test_a_foreign_file_is_not_the_normal_form(shared: Path):
    with pytest.raises(WeightsError, match="not in the normal form") as caught:
        read_normal(shared / "fixtures/frcnn/hf/weights.safetensors")
    assert "featx weights import" in caught.value.hint


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_adds_labels_and_keeps_the_rest(stored: Path, tiny: Weights, tmp_path: Path):
    (tmp_path / "objects.txt").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join(f"thing {i},stuff" for i in range(40)).encode()
    )
    (tmp_path / "attributes.txt").write_text("".join(f" kind {i} , sort\n" for i in range(20)))
    out = tmp_path / "named.safetensors"
    report = import_weights(stored, out, objects=tmp_path / "objects.txt", attributes=str(tmp_path / "attributes.txt"))
    header = read_normal(out).header
    assert header.objects == tuple(f"thing {i}" for i in range(40))
    assert header.attributes == tuple(f"kind {i}" for i in range(20))
    assert report["labels"]["objects"][:2] == ["thing 0", "thing 1"]
    assert replace(header, objects=None, attributes=None) == replace(tiny.header, objects=None, attributes=None)


def test_the_published_vocabulary_is_read_whole(shared: Path):
    from featx.labels import read_labels

    objects = read_labels(shared / "vocab/vg_objects_vocab.txt", "objects", 1600)
    attributes = read_labels(shared / "vocab/vg_attributes_vocab.txt", "attributes", 400)
    assert (objects[0], len(objects), len(attributes)) == ("yolk", 1600, 400)
    assert not [name for name in objects + attributes if "," in name or name != name.strip()]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a\nb\n", "has 2 entries, but 40 objects are known"),
        (b"\n".join([b"x"] * 20 + [b""] + [b"y"] * 19), "no name in line 21"),
        (b"\xff\xfe" + b"x\n" * 40, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_vocabulary_that_does_not_fit(stored: Path, tmp_path: Path, data: bytes | None, words: str):
    path = tmp_path / "objects.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        load_weights(stored, labels={"objects": path})
    assert str(path) in caught.value.message


def test_labels_can_be_given_as_a_list(stored: Path):
    names = [f"n{i}" for i in range(40)]
    weights = load_weights(stored, labels={"objects": names, "attributes": None})
    assert weights.labels == {"objects": tuple(names), "attributes": tuple(f"attribute {i}" for i in range(20))}
    with pytest.raises(WeightsError, match="relations"):
        load_weights(stored, labels={"relations": names})


def test_import_does_not_overwrite_unless_told(stored: Path, tmp_path: Path):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(WeightsError, match="exists"):
        import_weights(stored, out)
    assert out.read_bytes() == b"precious"
    import_weights(stored, out, overwrite=True)
    assert out.read_bytes() == stored.read_bytes()


def test_a_failed_import_leaves_nothing_behind(stored: Path, tmp_path: Path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WeightsError, match=r"no \.safetensors file"):
        import_weights(stored, tmp_path / "out.bin")
    with pytest.raises(UsageError, match="no profile"):
        import_weights(stored, tmp_path / "out.safetensors", profile="nobody")
    with pytest.raises(WeightsError, match="cannot be written"):
        import_weights(stored, tmp_path / "absent" / "out.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(WeightsError, match="cannot be written"):
        import_weights(stored, tmp_path / "taken.safetensors", overwrite=True)
    (tmp_path / "taken.safetensors").rmdir()
    assert sorted(tmp_path.iterdir()) == before


def test_stated_delta_weights_go_into_the_header(stored: Path, tmp_path: Path):
    import_weights(stored, tmp_path / "out.safetensors", delta_weights=(1, 1, 1, 1))
    header = read_normal(tmp_path / "out.safetensors").header
    assert (header.delta_weights, header.delta_weights_from) == ((1, 1, 1, 1), "given")
    with pytest.raises(WeightsError, match="four positive numbers"):
        load_weights(stored, delta_weights=(1, 1, 1, 0))


def test_the_report_is_plain_json_and_complete(tmp_path: Path, shared: Path):
    (tmp_path / "m.pkl").write_bytes(forms.airsplay_pickle(forms.reference(shared)))
    report = json.loads(json.dumps(inspect_weights(tmp_path / "m.pkl")))
    data = (tmp_path / "m.pkl").read_bytes()
    assert report["file"] == {
        "path": str(tmp_path / "m.pkl"),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "container": "pickle",
    }
    architecture = report["architecture"]
    assert (architecture["depth"], architecture["blocks"], architecture["anchors"]) == (101, [3, 4, 23, 3], 15)
    assert report["tensors"] == 536  # 104 convolutions, 416 norms, anchors, 6 of the RPN, 9 of the predictor
    plain = forms.without_counters(forms.reference(shared))
    assert report["parameters"] == sum(int(np.prod(a.shape)) for a in plain.values())
    assert report["header"]["source_sha256"] == report["file"]["sha256"]
    assert report["labels"] == {"objects": None, "attributes": None}
    assert report["header"]["notes"]


def test_headers_compare_by_content(tiny: Weights):
    again = Header.from_json(tiny.header.to_json(), "x")
    assert again == tiny.header
    assert replace(again, profile="hf-demo").fingerprint != tiny.header.fingerprint
