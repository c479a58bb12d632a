"""Grids of four cells with a ball or a cube in each, and what can be said about them, small enough for a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featx.record import Record
from featx.schema import Field, Schema
from featx.store import create_store, open_part
from featx.vle.network import Vle
from featx.vle.sizes import Sizes
from featx.vle.weights import new_network

DIM, ROWS = 12, 5
BOXES = np.float32([[0, 0, 20, 20], [0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [10, 10, 20, 20]])
THINGS = ("red ball", "blue ball", "red cube")
PLACES = ("first", "second", "third", "last")
PROVENANCE = {
    "extractor": "fake",
    "profile": {"hash": "profile-1", "tensor": "last_hidden_state", "cls": True},
    "weights": {"sha256": "weights-1", "source": "toy"},
}


def things(i: int) -> list[int]:
    """What lies in the four cells of picture i."""
    return [int(k) for k in np.random.default_rng(1000 + i).integers(len(THINGS), size=4)]


def record(i: int) -> Record:
    """Features show what lies in a cell and which cell it is, as those of a tower do."""
    features = 0.3 * np.random.default_rng(i).random((ROWS, DIM), np.float32)
    for cell, thing in enumerate(things(i), 1):
        features[cell, thing] += 2
        features[cell, 4 + cell] += 2
        features[0, thing] += 0.5
    return Record(features, BOXES, (20, 20), ROWS, {})


def make_store(path: Path, count: int = 24, provenance: Mapping[str, Any] = PROVENANCE) -> Path:
    """A float32 store of grids p0, p1, ..."""
    fields = (Field("features", "float32", (DIM,)), Field("boxes", "float32", (4,)))
    create_store(path, "lmdb", Schema(fields, boxes="grid", pooled="grid", rows=ROWS), dict(provenance), {})
    with open_part(path) as writer:
        for i in range(count):
            writer.put(f"p{i}", record(i), i)
        writer.finish()
    return path


def write_data(folder: Path, count: int = 24) -> dict[str, Any]:
    """Specifications of questions (VQAv2's layout), captions and boxes (COCO's)."""
    images = [{"id": i, "file_name": f"p{i}.jpg"} for i in range(count)]
    asked = [(i, place) for i in range(count) for place in range(4)]
    questions = [{"question_id": i * 4 + place, "image_id": i, "question": f"what is in the {PLACES[place]} corner?"}
                 for i, place in asked]  # fmt: skip
    answers = [{"question_id": i * 4 + place, "image_id": i, "question_type": "what", "answer_type": "other",
                "multiple_choice_answer": THINGS[things(i)[place]],
                "answers": [{"answer": THINGS[things(i)[place]], "answer_id": n} for n in range(1, 11)]}
               for i, place in asked]  # fmt: skip
    captions = [{"id": i, "image_id": i, "caption": "there is " + " and ".join(f"a {THINGS[k]}" for k in things(i))}
                for i in range(count)]  # fmt: skip
    boxes = [{"id": i * 4 + place, "image_id": i, "category_id": 1 + THINGS[things(i)[place]].endswith("cube"),
              "bbox": [float(BOXES[place + 1][0]) + 1, float(BOXES[place + 1][1]) + 1, 8.0, 8.0],
              "attribute_ids": [int(THINGS[things(i)[place]].startswith("blue"))]} for i, place in asked]  # fmt: skip
    files = {
        "questions": {"data_subtype": "toys", "task_type": "Open-Ended", "questions": questions},
        "annotations": {"data_subtype": "toys", "annotations": answers},
        "captions": {"images": images, "annotations": captions},
        "boxes": {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "ball"},
                  {"id": 2, "name": "cube"}], "attCategories": [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]},
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    at = {name: str(folder / f"{name}.json") for name in files}
    return {
        "vle-vqa": {"questions": at["questions"], "annotations": at["annotations"], "image_name": "p{image_id}"},
        "vle-itm": {"captions": at["captions"]},
        "vle-pbc": {"boxes": at["boxes"]},
    }


def network(vocabulary: int, heads: tuple[str, ...], classes: int = 0, seed: int = 0) -> tuple[Vle, dict[str, Any]]:
    """A network without symmetries: no bias is zero and no scale one."""
    torch.manual_seed(seed)
    made, config = new_network(Sizes(vocabulary, DIM, 24, 32, 4, (1, 2), 8, 32, 2, 0.0, 0.3), heads, classes)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval(), config
