"""Networks, stores and questions small enough for a test, from fixed seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LxmertConfig, LxmertForPreTraining, LxmertForQuestionAnswering

from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part

DIM, ROWS, ANSWERS = 16, 6, ("red", "blue", "2", "yes")
PROVENANCE = {
    "extractor": "fake",
    "profile": {"hash": "profile-1", "name": "toy"},
    "weights": {"sha256": "weights-1", "source": "toy"},
}
LABELS = {"objects": ["cube", "ball", "tree"], "attributes": ["red", "blue"]}


def config(**changes: Any) -> LxmertConfig:
    sizes = {
        "vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "l_layers": 1,
        "r_layers": 2, "x_layers": 2, "visual_feat_dim": DIM, "max_position_embeddings": 24,
        "num_qa_labels": len(ANSWERS), "num_object_labels": 3, "num_attr_labels": 2, "initializer_range": 0.3,
    }  # fmt: skip
    return LxmertConfig(**{**sizes, **changes})


def answering(seed: int = 0, **changes: Any) -> LxmertForQuestionAnswering:
    torch.manual_seed(seed)
    return _stirred(LxmertForQuestionAnswering(config(**changes)))


def pretraining(seed: int = 0, **changes: Any) -> LxmertForPreTraining:
    torch.manual_seed(seed)
    return _stirred(LxmertForPreTraining(config(**changes)))


@torch.no_grad()
def _stirred(network: Any) -> Any:
    """No bias is zero and no scale one, so that a parameter that is left out shows."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name:
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def record(i: int, count: int = ROWS) -> Record:
    """Regions of picture ``i``, which has a size of its own."""
    rng, size = np.random.default_rng(i), (30 + i, 50 - 2 * i)
    corners = np.sort(rng.random((ROWS, 2, 2), np.float32), axis=1).reshape(ROWS, 4)
    boxes = corners * np.float32([size[1], size[0], size[1], size[0]])
    features = rng.random((ROWS, DIM), np.float32)
    boxes[count:], features[count:] = 0, 0
    extra = {
        "object_ids": rng.integers(0, 3, ROWS, np.int32),
        "object_confs": rng.random(ROWS, np.float32),
        "attribute_ids": rng.integers(0, 2, ROWS, np.int32),
        "attribute_confs": rng.random(ROWS, np.float32),
    }
    return Record(features, boxes.astype(np.float32), size, count, extra)


def make_store(
    path: Path, records: Mapping[str, Record] | None = None, provenance: Mapping[str, Any] = PROVENANCE,
    labels: Mapping[str, Any] = LABELS,
) -> Path:  # fmt: skip
    """A float32 store; by default of p0 to p7, every second one with padding."""
    found = records or {f"p{i}": record(i, ROWS - i % 2) for i in range(8)}
    dim = next(iter(found.values())).features.shape[1]
    create_store(path, "lmdb", region_schema(dim, "float32", rows=ROWS), dict(provenance), dict(labels))
    with open_part(path) as writer:
        for i, (key, one) in enumerate(found.items()):
            writer.put(key, one, i)
        writer.finish()
    return path


WORDS = ("what", "colour", "is", "the", "cube", "how", "many", "balls", "are", "there", "in", "front", "of", "tree")


def write_questions(path: Path, rows: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """A list of LXMERT's; by default three questions about each of p0 to p7."""
    texts = ("what colour is the cube?", "how many balls are there?", "is the tree in front of the ball?")
    given = rows or [
        {"question_id": 3 * i + k, "img_id": f"p{i}", "sent": text, "label": {ANSWERS[(i + k) % 4]: 1.0, "red": 0.3},
         "answer_type": "other"}
        for i in range(8)
        for k, text in enumerate(texts)
    ]  # fmt: skip
    path.write_text(json.dumps(given))
    return path


def options(questions: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of a task on these questions, with everything small."""
    spec = {"questions": str(questions)}
    model = {"hidden": 32, "heads": 4, "feedforward": 48, "layers": [1, 1, 1], "dim": DIM, "init_std": 0.3,
             "dropout": 0.0, "tokenizer": {"size": 80}}  # fmt: skip
    base: dict[str, Any] = {"model": model, "data": {"train": spec, "val": spec, "answers": {"least": 1}}}
    return {**base, **changes}
