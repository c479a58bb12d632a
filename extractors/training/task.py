"""DetectorTask: the detector as the training loop sees it (``task: detector``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from featx.errors import UsageError
from featx.record import RecordBatch
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx_extractors.memory import keep_freed_memory
from featx_extractors.training.batches import Batches, truths_of
from featx_extractors.training.coco import Annotated, Names, read_coco
from featx_extractors.training.export import CARD, WEIGHTS, card, trained_weights
from featx_extractors.training.judge import Judge
from featx_extractors.training.losses import Losses
from featx_extractors.training.model import TrainableDetector
from featx_extractors.training.options import DataOptions, DetectorOptions, ModelOptions, TargetOptions
from featx_extractors.training.scores import (
    Detections,
    Expected,
    assign,
    attribute_scores,
    mean_average_precision,
)
from featx_extractors.training.start import fresh, started, training_deltas
from featx_extractors.weights import load_weights
from featx_extractors.weights.checkpoint import UNIT, Weights4
from featx_extractors.weights.normal import Weights, rounded_to_float16, write_normal


class DetectorTask(Task):
    """A Faster R-CNN with attributes, and the annotated pictures that it learns from."""

    name: ClassVar[str] = "detector"
    model: TrainableDetector

    def __init__(self, model: ModelOptions, data: DataOptions, targets: TargetOptions) -> None:
        keep_freed_memory()
        self.options, self.data, self.targets = model, data, targets
        self.splits, self.names = read_splits(data)
        start = load_weights(model.start) if model.start else None
        self.profile = model.resolved_profile(start.header.profile if start else None)
        if start:
            self.model = started(model, self.profile, start, self.names)
        else:
            self.model = fresh(model, self.profile, self.names)
        self.delta_weights = training_deltas(self.profile)
        self.rpn_delta_weights: Weights4 = start.header.rpn_delta_weights if start else UNIT
        self.losses = Losses(self.model, targets, self.delta_weights, self.rpn_delta_weights)
        self.batches = Batches(self.profile, data, targets, len(self.names.attributes))
        self.judge = Judge(self.model, self.profile, self.weights)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> DetectorTask:
        """From the sections ``model``, ``data`` and ``targets``, see ``options``. Raises UsageError."""
        chosen = read(DetectorOptions, "", options)
        return cls(chosen.model, chosen.data, chosen.targets)

    def wants(self) -> None:
        """It reads pictures, not a store."""
        return

    def examples(self, split: Split) -> Sequence[Annotated]:
        return self.splits[split]

    def prepare(
        self, examples: Sequence[Annotated], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """See :class:`Batches`; all decoding happens here."""
        return self.batches(examples, rngs)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """See :class:`Losses`; ``unreadable`` beside them is the share of pictures that could not be read.

        A share and in every batch, since the log has means over pieces, processes and steps.
        """
        parts = self.losses(batch["pixels"], truths_of(batch, bool(self.names.attributes)))
        return parts | {"unreadable": batch["unreadable"].float().mean()}

    def predict(self, batch: Batch) -> list[Any]:
        return self.judge.detections(batch)

    def metric(self, examples: Sequence[Annotated], predictions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """``map50`` first; see ``scores`` for the others. ``recall``: boxes found by any detection of their class."""
        found = [_detections(p) for p in predictions]
        expected = [Expected(e.boxes, e.classes, e.attributes) for e in examples]
        assigned = [assign(f, e) for f, e in zip(found, expected, strict=True)]
        average, _ = mean_average_precision(found, expected, assigned, len(self.names.objects))
        hits, total = sum(int((rows >= 0).sum()) for rows in assigned), sum(len(e.boxes) for e in expected)
        scores = {"map50": average, "recall": hits / max(total, 1)}
        return scores | (attribute_scores(found, expected, assigned) if self.names.attributes else {})

    def groups(self) -> list[Group]:
        """Layers with weight decay; norms and biases without. The backbone has a rate of its own."""
        found: dict[tuple[float, bool], list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                rate = self.options.backbone_lr if name.startswith("backbone.") else 1.0
                found.setdefault((rate, parameter.ndim > 1), []).append((name, parameter))
        return [
            Group([p for _, p in named], lr=rate, decay=decay, names=[n for n, _ in named])
            for (rate, decay), named in found.items()
        ]

    def weights(self) -> Weights:
        """The model as it stands, in the normal form."""
        return trained_weights(
            self.model.tensors(), self.names, self.profile, self.delta_weights, self.rpn_delta_weights
        )

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """``weights.safetensors``, a location of weights like any other, and ``card.md``."""
        weights = self.weights()
        if self.options.dtype == "float16":
            weights = rounded_to_float16(weights)
        write_normal(weights, folder / WEIGHTS, self.options.dtype)
        options = {"model": asdict(self.options), "data": asdict(self.data), "targets": asdict(self.targets)}
        (folder / CARD).write_text(card(weights, options, trained_on), encoding="utf-8")


def read_splits(data: DataOptions) -> tuple[dict[Split, list[Annotated]], Names]:
    """The pictures of both splits and their names.

    Raises UsageError when there is no ``train``, or no box in it, and when the splits name different things.
    """
    if not data.train:
        raise UsageError("data.train is missing", "give {annotations: FILE.json, pictures: FOLDER}")
    train, names = _read(data.train, "train")
    if not any(len(one.boxes) for one in train):
        raise UsageError(
            f"there is no box in {data.train['annotations']} (crowds and boxes without area do not count)",
            "give annotations to learn from",
        )
    val: list[Annotated] = []
    if data.val:
        val, others = _read(data.val, "val")
        if others != names:
            raise UsageError(
                f"{data.val['annotations']} and {data.train['annotations']} do not name the same categories and "
                "attributes under the same ids",
                "both splits need the same tables",
            )
    return {"train": train, "val": val}, names


def _read(files: Mapping[str, Any], split: str) -> tuple[list[Annotated], Names]:
    if set(files) != {"annotations", "pictures"} or not all(isinstance(f, str) for f in files.values()):
        raise UsageError(f"data.{split} is {dict(files)}", "give {annotations: FILE.json, pictures: FOLDER}")
    return read_coco(files["annotations"], files["pictures"])


def _detections(prediction: Mapping[str, Any]) -> Detections:
    count = len(prediction["scores"])
    return Detections(
        np.array(prediction["boxes"], np.float64).reshape(count, 4),
        np.array(prediction["classes"], np.int64),
        np.array(prediction["scores"], np.float64),
        np.array(prediction["attributes"], np.int64).reshape(count, -1) if count else np.zeros((0, 0), np.int64),
    )
