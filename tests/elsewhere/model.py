"""A kind of model: chooses a colour by the mean of a picture's tiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.consumer import Answers, Card
from featx.data import AnswerSpace
from featx.record import RecordBatch
from featx.wants import Wants, wants_of


class Colours(Answers):
    """A linear layer on the mean of the features."""

    name = "elsewhere-model"
    card = Card("Colours of tiles", "4 x 3 of elsewhere-tiles", ["its own folders"], "by eye", ["elsewhere-colour"], [])

    def __init__(self, network: torch.nn.Module, answers: AnswerSpace, about: Mapping[str, Any]) -> None:
        self.network, self.answers, self.about = network, answers, about

    @classmethod
    def load(cls, place: Place) -> Colours:
        assert place.weights is not None
        answers = AnswerSpace.read(place.folder / "answers.json")
        network = torch.nn.Linear(3, len(answers))
        network.load_state_dict(load_file(place.weights))
        return cls(network, answers, read_config(place.beside("featx.json")))

    def save(self, folder: Path) -> None:
        save_file(self.network.state_dict(), folder / "model.safetensors")
        self.answers.write(folder / "answers.json")
        (folder / "config.json").write_text(json.dumps({"model_type": self.name}))
        (folder / "featx.json").write_text(json.dumps(self.about))

    @property
    def wants(self) -> Wants:
        return wants_of(self.about, 3)

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        if records is None:
            return torch.zeros(len(questions), len(self.answers))
        found: torch.Tensor = self.network(records.features.mean(dim=1))
        return found
