"""Stores of pictures and texts, and VizWiz files, small enough for a test; in place of CLIP a few fixed directions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featx.record import Record
from featx.schema import Array, Field, Schema
from featx.store import create_store, open_part

TEXT, IMAGE = 12, 10
COLOURS = ("red", "blue", "green", "white")
KINDS = ("cup", "hat", "car", "tree")
QUESTIONS = {"colour": "What colour is this?", "kind": "What is this?", "there": "Is there a cup?"}


def provenance(tensor: str, tower: str | None = "tower-1") -> dict[str, Any]:
    """What a store of embeddings says; ``tower`` is the hash of the vision tower of its CLIP."""
    return {
        "extractor": "fake",
        "profile": {"hash": f"profile-{tensor}", "tensor": tensor},
        "weights": {"sha256": tower, "source": "toy"} if tower else {},
    }


def make_store(path: Path, rows: Mapping[str, Array], stated: Mapping[str, Any]) -> Path:
    """A store of embeddings ``[R, D]`` by key."""
    first = next(iter(rows.values()))
    fields = (Field("features", "float32", first.shape[1:]), Field("boxes", "float32", (4,)))
    create_store(path, "lmdb", Schema(fields, "grid", "grid", len(first)), dict(stated), {})
    with open_part(path) as writer:
        for i, (key, features) in enumerate(rows.items()):
            boxes = np.zeros((len(features), 4), np.float32)
            writer.put(key, Record(features.astype(np.float32), boxes, (1, 1), len(features), {}), i)
        writer.finish()
    return path


def direction(name: str, dim: int) -> Array:
    """A fixed vector for a word."""
    seed = [ord(c) for c in name]
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)


def text_store(path: Path, texts: Sequence[str] = tuple(QUESTIONS.values()), tower: str | None = "tower-1") -> Path:
    """One row for each text, which is its key."""
    return make_store(path, {text: direction(text, TEXT)[None] for text in texts}, provenance("text", tower))


class World:
    """Pictures of one thing, some of them black; one question about each, as VizWiz writes it."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.entries: list[dict[str, Any]] = []
        self.vectors: dict[str, Array] = {}
        for i in range(count):
            colour, kind = str(rng.choice(COLOURS)), str(rng.choice(KINDS))
            form, black = str(rng.choice(list(QUESTIONS))), bool(rng.random() < 0.3)
            name = f"VizWiz_{seed}_{i:04d}"
            noise = 0.05 * rng.standard_normal(IMAGE).astype(np.float32)
            seen = direction("black", IMAGE) if black else direction(colour, IMAGE) + direction(kind, IMAGE)
            self.vectors[name] = seen + noise
            truth = {"colour": colour, "kind": kind, "there": "yes" if kind == "cup" else "no"}[form]
            self.entries.append(entry(f"{name}.jpg", QUESTIONS[form], "unanswerable" if black else truth))

    def write(self, path: Path) -> str:
        path.write_text(json.dumps(self.entries))
        return str(path)

    def store(self, path: Path, rows: int = 1, tower: str | None = "tower-1") -> Path:
        """rows: of each record; the others are what the picture would be if it were turned."""
        turned = {
            key: np.stack([vector, *(vector + 0.01 * turn for turn in range(1, rows))])
            for key, vector in self.vectors.items()
        }
        return make_store(path, turned, provenance("projected", tower))


def entry(image: str, question: str, truth: str) -> dict[str, Any]:
    """Nine annotators say the truth, and are sure; one says something else."""
    said = [{"answer": truth, "answer_confidence": "yes"}] * 9 + [{"answer": "thing", "answer_confidence": "maybe"}]
    kinds = {"unanswerable": "unanswerable", "yes": "yes/no", "no": "yes/no"}
    return {
        "image": image, "question": question, "answers": said,
        "answer_type": kinds.get(truth, "other"), "answerable": int(truth != "unanswerable"),
    }  # fmt: skip
