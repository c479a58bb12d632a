"""Untrained weights: the same everywhere, well-behaved through the whole network, and never taken for trained ones."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from featx.errors import WeightsError
from featx_extractors.weights import FULL, TINY, Architecture, Weights, load_weights, seeded_weights
from tests.weights_forms import CELL, HEAD, RPN

DEEP = Architecture(
    stem=16, width=8, out=32, rpn_hidden=32, classes=40, attributes=20, embedding=16, attribute_hidden=32
)


def philox(key: int, count: int) -> list[int]:
    """Philox4x64-10 of Salmon et al. 2011, counting from 1 as numpy does."""
    mask, out, counter = 2**64 - 1, list[int](), 1
    while len(out) < count:
        x, k = [counter, 0, 0, 0], [key & mask, key >> 64]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        out += x
        counter += 1
    return out[:count]


def halves(name: str, seed: int, count: int) -> list[int]:
    """Signed 32-bit whole numbers behind a tensor, low half of each word first."""
    key = int.from_bytes(hashlib.sha256(f"featx {seed} {name}".encode()).digest()[:16], "little")
    words = philox(key, (count + 1) // 2)
    parts = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)][:count]
    return [part - 2**32 if part >= 2**31 else part for part in parts]


def test_values_come_from_philox_bit_for_bit():
    tensors = seeded_weights(TINY, 7).tensors
    name = "backbone.res2.0.conv1.norm.running_mean"
    scale = np.float32(0.05 * math.sqrt(3) / 2**31)
    wanted = np.array([np.float32(v) * scale for v in halves(name, 7, 8)], np.float32)
    np.testing.assert_array_equal(tensors[name].numpy(), wanted)

    name = "backbone.res2.0.conv1.weight"  # [8, 16, 1, 1]: rows made to sum to zero, He variance 2 / 16
    rows = [halves(name, 7, 128)[16 * i : 16 * i + 16] for i in range(8)]
    centred = [[v - sum(row) // 16 for v in row] for row in rows]
    scale = np.float32(math.sqrt(2) / math.sqrt(16) * math.sqrt(3) / 2**31)
    wanted = np.array([[np.float32(v) * scale for v in row] for row in centred], np.float32)
    np.testing.assert_array_equal(tensors[name].numpy().reshape(8, 16), wanted)


def test_equal_seeds_give_equal_weights_and_others_differ():
    first, again, other = (seeded_weights(TINY, seed) for seed in (0, 0, 1))
    assert first.header == again.header
    assert first.header.sha256 != other.header.sha256
    assert all(tensor.equal(again.tensors[name]) for name, tensor in first.tensors.items())


def test_they_say_that_they_are_untrained():
    header = seeded_weights(TINY).header
    assert not header.trained
    assert any("untrained" in note for note in header.notes)
    assert header.objects is not None
    assert header.attributes is not None
    assert (header.objects[0], header.objects[-1]) == ("object 0", "object 39")
    assert (header.attributes[0], header.attributes[-1]) == ("attribute 0", "attribute 19")


def test_they_are_found_by_name():
    assert load_weights("seeded-tiny").header == seeded_weights(TINY, 0).header
    assert load_weights("seeded-tiny:12").header == seeded_weights(TINY, 12).header
    with pytest.raises(WeightsError, match="no weights file"):
        load_weights("seeded-tiny:x")


def test_heads_without_attributes_and_odd_numbers_of_anchors():
    weights = seeded_weights(Architecture(8, 4, 16, (1, 1, 1, 1), 8, anchors=7, classes=3, attributes=0))
    assert weights.header.attributes is None
    assert weights.header.anchors == "other"
    assert weights.tensors[CELL].shape == (7, 4)
    assert not [name for name in weights.tensors if "attr" in name]
    with pytest.raises(WeightsError):
        seeded_weights(Architecture(classes=0))


def test_the_real_size_has_the_published_parameters_and_is_quick():
    start = time.perf_counter()
    weights = seeded_weights()
    took = time.perf_counter() - start
    assert len(weights.tensors) == 536
    learned = [t.numel() for name, t in weights.tensors.items() if ".running_" not in name]
    assert sum(learned) == 65_439_870  # of the published network
    assert weights.architecture == FULL
    assert took < 30, f"{took:.1f} s"


# --- a plain forward pass ---------------------------------------------------------------------------------------------


def conv(weights: Weights, name: str, x: torch.Tensor, stride: int = 1, dilation: int = 1) -> torch.Tensor:
    w = weights.tensors[f"{name}.weight"]
    x = F.conv2d(x, w, None, stride, w.shape[-1] // 2 * dilation, dilation)
    leaves = [weights.tensors[f"{name}.norm.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *leaves, training=False, eps=1e-5)


def stage(weights: Weights, prefix: str, x: torch.Tensor, stride: int, dilation: int = 1) -> torch.Tensor:
    block = 0
    while f"{prefix}.{block}.conv1.weight" in weights.tensors:
        name, step = f"{prefix}.{block}", stride if block == 0 else 1
        out = F.relu(conv(weights, f"{name}.conv1", x, step))
        out = conv(weights, f"{name}.conv3", F.relu(conv(weights, f"{name}.conv2", out, 1, dilation)))
        x = F.relu(out + (conv(weights, f"{name}.shortcut", x, step) if block == 0 else x))
        block += 1
    return x


def linear(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights.tensors[f"{name}.weight"].flatten(1).T + weights.tensors[f"{name}.bias"]


def photo(seed: int) -> torch.Tensor:
    """Something like a photo minus its mean: smooth at every scale, within [-123, 153]."""
    noise = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(1, 3, n, n, generator=noise), size=(256, 256), mode="bilinear") for n in (4, 16, 64)
    ]
    return torch.clamp(40 * (layers[0] + layers[1] + layers[2]), -123, 153)


@pytest.mark.parametrize("architecture", [TINY, DEEP], ids=["tiny", "101 layers"])
@pytest.mark.parametrize("seed", [0, 1])
def test_activations_keep_their_size_and_scores_vary(architecture: Architecture, seed: int):
    weights = seeded_weights(architecture, seed)
    with torch.inference_mode():
        x = F.max_pool2d(F.relu(conv(weights, "backbone.stem.conv1", photo(seed), 2)), 3, 2, ceil_mode=True)
        for level, stride in ((2, 1), (3, 2), (4, 2)):
            x = stage(weights, f"backbone.res{level}", x, stride)
        assert 0.1 < x.square().mean().sqrt() < 10
        hidden = F.relu(F.conv2d(x, weights.tensors[f"{RPN}.conv.weight"], weights.tensors[f"{RPN}.conv.bias"], 1, 1))
        cells = hidden.permute(0, 2, 3, 1).reshape(-1, hidden.shape[1])
        logits = linear(weights, f"{RPN}.objectness_logits", cells)
        deltas = linear(weights, f"{RPN}.anchor_deltas", cells)
        assert 0.2 < logits.std(0).mean() < 10  # between places, not only between anchors
        assert deltas.abs().max() < 4  # exp of it stays a sensible factor

        windows = [x[:, :, y : y + h, z : z + w] for y in (0, 5, 10) for z in (0, 4, 9) for h, w in ((3, 3), (6, 4))]
        pooled = torch.cat([F.adaptive_max_pool2d(w, 14) for w in windows])
        features = stage(weights, "roi_heads.res5", pooled, 1, 2).mean((2, 3))
        scores = linear(weights, f"{HEAD}.cls_score", features)
        best = scores.argmax(1)
        embedded = torch.cat([features, weights.tensors[f"{HEAD}.cls_embedding.weight"][best]], 1)
        attributes = linear(weights, f"{HEAD}.attr_score", F.relu(linear(weights, f"{HEAD}.fc_attr", embedded)))
    assert 0.05 < features.square().mean().sqrt() < 20
    assert scores.std(0).mean() > 0.5
    assert best.unique().numel() >= 2
    assert scores.softmax(1).max(1).values.std() > 0.02
    assert attributes.isfinite().all()
