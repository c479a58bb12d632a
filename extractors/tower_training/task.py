"""TowerTask: a CLIP as the training loop sees it (``task: clip-tower``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from featx.errors import UsageError
from featx.record import RecordBatch
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx_extractors.tower_training.cells import Cells
from featx_extractors.tower_training.continued import continued_clip
from featx_extractors.tower_training.export import write_tower
from featx_extractors.tower_training.fresh import new_clip
from featx_extractors.tower_training.letters import Letters
from featx_extractors.tower_training.model import Taught
from featx_extractors.tower_training.options import TowerOptions
from featx_extractors.tower_training.pairs import Pair, read_pairs
from featx_extractors.tower_training.variation import Varied, varied
from featx_extractors.towers.family import CLIP
from featx_extractors.towers.pixels import to_input
from featx_extractors.towers.resizing import squashed
from featx_extractors.training.batches import read_or_blank
from featx_extractors.training.coco import Names


class TowerTask(Task):
    """A CLIP whose grid learns what is where, and whose texts learn which picture they are about."""

    name: ClassVar[str] = "clip-tower"
    model: Taught
    partial_graph: ClassVar[bool] = True  # without texts nothing reaches the text tower

    def __init__(self, options: TowerOptions) -> None:
        self.options = options
        self.splits, self.names = _splits(options)
        sizes = options.model
        if sizes.weights:
            clip, self.letters = continued_clip(sizes.weights, sizes.size)
        else:
            texts = [text for pair in self.splits["train"] for text in pair.texts]
            self.letters = Letters.of(texts, sizes.words, sizes.length)
            clip = new_clip(sizes, len(self.letters), (self.letters.begin, self.letters.end))
        self.patch = clip.config.vision_config.patch_size
        side = sizes.size // self.patch
        self.cells = Cells(side, side, self.names)
        self.model = Taught(clip, self.cells.outputs)
        self.how = squashed(CLIP, sizes.size)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TowerTask:
        return cls(read(TowerOptions, "", options))

    def wants(self) -> None:
        """It reads pictures, not a store."""
        return

    def examples(self, split: Split) -> Sequence[Pair]:
        return self.splits[split]

    def prepare(
        self, examples: Sequence[Pair], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """pixels ``[B, 3, S, S]``, what cells are to say (:meth:`Cells.targets`), and texts of pictures ``told``."""
        chances = repeat(None, len(examples)) if rngs is None else rngs
        rows = [self._picture(pair, rng) for pair, rng in zip(examples, chances, strict=True)]
        texts = [row.pop("text") for row in rows]
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        batch["told"] = torch.tensor([bool(text) for text in texts])
        if batch["told"].any():
            batch["ids"], batch["mask"] = self.letters.encode([text for text in texts if text])
        return batch

    def _picture(self, pair: Pair, rng: np.random.Generator | None) -> dict[str, Any]:
        pixels, shown = read_or_blank(pair.annotated)
        seen, text = Varied(pixels, shown.boxes), pair.texts[0] if pair.texts else ""
        if rng is not None:
            seen = varied(pixels, shown.boxes, self.options.data, rng)
            text = pair.texts[int(rng.integers(len(pair.texts)))] if pair.texts else ""
        size = (int(seen.pixels.shape[0]), int(seen.pixels.shape[1]))
        wanted = self.cells.targets(seen.boxes, shown.classes, shown.attributes, size)
        made = {name: torch.from_numpy(array) for name, array in wanted.items()}
        frame = self.how.frame(*size, self.patch)
        return {"pixels": to_input(seen.pixels, frame, self.how), "text": "" if seen.mirrored else text, **made}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        said, pictures = self.model.see(batch["pixels"])
        parts = {"cells": self.cells.losses(said, batch, self.options.losses)}
        if "ids" in batch:
            parts["texts"] = self.model.contrast(pictures[batch["told"]], self.model.read(batch["ids"], batch["mask"]))
        return {"loss": parts["cells"] + self.options.losses.texts * parts.get("texts", 0), **parts}

    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """For each picture, the class of every cell and the attributes it is likelier to have than not."""
        kinds, like, _ = self.cells.split(self.model.see(batch["pixels"])[0].float())
        ids = [[np.flatnonzero(cell).tolist() for cell in picture] for picture in (like > 0).cpu().numpy()]
        return [{"classes": k, "attributes": a} for k, a in zip(kinds.argmax(dim=2).tolist(), ids, strict=True)]

    def metric(self, examples: Sequence[Pair], predictions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Percent: ``things``, cells with a thing that name it; ``cells``, all that are right; ``attributes``, F1."""
        counts = sum(self._counts(pair, one) for pair, one in zip(examples, predictions, strict=True))
        things, named, cells, right, hits, likes = np.maximum(counts, [1, 0, 1, 0, 0, 1])
        return {"things": 100 * named / things, "cells": 100 * right / cells, "attributes": 200 * hits / likes}

    def _counts(self, pair: Pair, prediction: Mapping[str, Any]) -> Any:
        """``[6]``: cells with a thing, of these named right, all, right; attributes right, and true plus said."""
        one = pair.annotated
        wanted = self.cells.targets(one.boxes, one.classes, one.attributes, one.size)
        agree, there = wanted["classes"] == prediction["classes"], wanted["classes"] < len(self.names.objects)
        like = np.zeros_like(wanted["attributes"])
        for row, ids in zip(like, prediction["attributes"], strict=True):
            row[ids] = 1
        like, true = like[there], wanted["attributes"][there]
        return np.array(
            [there.sum(), agree[there].sum(), len(agree), agree.sum(), (like * true).sum(), like.sum() + true.sum()]
        )

    def groups(self) -> list[Group]:
        """Matrices with weight decay; norms, biases and embeddings without."""
        sides: dict[bool, list[tuple[str, torch.nn.Parameter]]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            sides[parameter.ndim > 1 and "embedding" not in name].append((name, parameter))
        return [Group([p for _, p in side], decay=decay, names=[n for n, _ in side]) for decay, side in sides.items()]

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """A folder that transformers' CLIPModel and the extractor ``clip`` read, and ``card.md``."""
        write_tower(folder, self.model.clip, self.letters, self.how, asdict(self.options), self.names, trained_on)


def _splits(options: TowerOptions) -> tuple[dict[Split, list[Pair]], Names]:
    """The pictures of both splits and the names. Raises UsageError when they name different things."""
    data = options.data
    if not data.train:
        raise UsageError("data.train is missing", "give {annotations: FILE.json, pictures: FOLDER}")
    train, names = read_pairs(data.train, data.train_texts, "train")
    if not data.val:
        return {"train": train, "val": []}, names
    val, others = read_pairs(data.val, data.val_texts, "val")
    if others != names:
        raise UsageError(
            f"{data.val['annotations']} and {data.train['annotations']} do not name the same categories and attributes",
            "both splits need the same tables",
        )
    return {"train": train, "val": val}, names
