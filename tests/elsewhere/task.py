"""A task: colours of pictures, from a list of ``{"picture": ..., "colour": ...}``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from elsewhere.model import Colours

from featx.data import AnswerSpace
from featx.record import RecordBatch
from featx.task import Batch, Split, Task
from featx.tasks.about import about
from featx.wants import Wants


@dataclass(frozen=True)
class Example:
    """A picture and its colour."""

    picture: str
    colour: str


class Colour(Task):
    """Cross-entropy of a linear layer."""

    name = "elsewhere-colour"

    def __init__(self, examples: str) -> None:
        self._examples = [Example(**one) for one in json.loads(Path(examples).read_text())]
        self.answers = AnswerSpace(tuple(sorted({one.colour for one in self._examples})))
        self.model = torch.nn.Linear(3, len(self.answers))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Colour:
        return cls(options["examples"])

    def wants(self) -> Wants:
        return Wants(dim=3)

    def examples(self, split: Split) -> Sequence[Example]:
        return self._examples

    def prepare(
        self, examples: Sequence[Example], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        assert records is not None
        classes = [list(self.answers).index(one.colour) for one in examples]
        return {"features": records.features.mean(dim=1), "colour": torch.tensor(classes)}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": torch.nn.functional.cross_entropy(self.model(batch["features"]), batch["colour"])}

    def predict(self, batch: Batch) -> list[str]:
        return [self.answers[i] for i in self.model(batch["features"]).argmax(dim=1).tolist()]

    def metric(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        right = sum(one.colour == said for one, said in zip(examples, predictions, strict=True))
        return {"accuracy": 100 * right / len(examples)}

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        said = about(self.name, self.wants(), trained_on, start={}, extractor={})
        Colours(self.model, self.answers, said).save(folder)
