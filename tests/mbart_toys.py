"""A captioning network, captions and a store small enough for a test, from fixed seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from featx.clip_mbart.network import Sizes, new_network
from featx.clip_mbart.vocabulary import Vocabulary
from featx.record import Record
from featx.schema import Field, Schema
from featx.store import create_store, open_part

DIM, ROWS = 12, 5
PROVENANCE = {
    "extractor": "fake",
    "profile": {"hash": "profile-1", "tensor": "last_hidden_state", "cls": True},
    "weights": {"sha256": "weights-1", "source": "toy"},
}
TEXTS = {
    "en": ("A red ball is here.", "A blue cube is there.", "Two red balls."),
    "fr": ("Il y a un ballon rouge.", "Un cube bleu, l'autre n'est pas là.", "Deux ballons rouges."),
}


def vocabulary(size: int = 200, max_length: int = 24) -> Vocabulary:
    return Vocabulary.train([text for texts in TEXTS.values() for text in texts], TEXTS, size, max_length)


def network(words: int, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """A network without symmetries: no bias is zero and no scale one."""
    torch.manual_seed(seed)
    made, config = new_network(Sizes(words, DIM, 24, 32, 4, 2, 40, 0.0, 0.3))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1 or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval(), config


def tower(seed: int = 1) -> CLIPVisionModel:
    torch.manual_seed(seed)
    sizes = CLIPVisionConfig(hidden_size=DIM, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                             image_size=16, patch_size=8, projection_dim=8)  # fmt: skip
    return CLIPVisionModel(sizes).eval()


def record(i: int, kind: int = 0) -> Record:
    """A grid of picture ``i``: a class token and four cells, which show what ``kind`` it is of."""
    rng = np.random.default_rng(i)
    features = rng.random((ROWS, DIM), np.float32)
    features[:, kind] += 3
    boxes = np.float32([[0, 0, 20, 20], [0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]])
    return Record(features, boxes, (20, 20), ROWS, {})


def make_store(path: Path, count: int = 9, provenance: Mapping[str, Any] = PROVENANCE) -> Path:
    """A float32 store of grids p0, p1, ...; picture i is of kind i % 3."""
    fields = (Field("features", "float32", (DIM,)), Field("boxes", "float32", (4,)))
    create_store(path, "lmdb", Schema(fields, boxes="grid", pooled="grid", rows=ROWS), dict(provenance), {})
    with open_part(path) as writer:
        for i in range(count):
            writer.put(f"p{i}", record(i, i % 3), i)
        writer.finish()
    return path


def write_captions(folder: Path, count: int = 9) -> dict[str, Path]:
    """A COCO file of captions for each language: picture i is described by the text of its kind."""
    made = {}
    for language, texts in TEXTS.items():
        images = [{"id": i, "file_name": f"p{i}.jpg"} for i in range(count)]
        rows = [{"id": i, "image_id": i, "caption": texts[i % 3]} for i in range(count)]
        made[language] = folder / f"captions_{language}.json"
        made[language].write_text(json.dumps({"images": images, "annotations": rows}), encoding="utf-8")
    return made
