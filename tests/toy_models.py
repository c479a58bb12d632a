"""A kind of model with every ability, whose arithmetic can be followed by hand; folders of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.consumer import Answers, Card, Grounds, Matches, TextEmbeddings
from featx.data import AnswerSpace
from featx.record import RecordBatch
from featx.wants import Wants, wants_of

DIM, KIND = 16, "toy-kind"


class Toy(Answers, Matches, Grounds):
    """What it thinks of a region is its features times ``w``; a text with the word ``not`` turns that round."""

    name = KIND
    card = Card("a toy", "regions", ["toys"], "by hand", [], [])

    def __init__(self, w: torch.Tensor, about: Mapping[str, Any], limit: int | None) -> None:
        self.network = torch.nn.Linear(len(w), 1, bias=False)
        self.network.weight.data = w[None]
        self.about, self.max_length = about, limit
        self.answers = AnswerSpace(("yes", "no", "?"))

    @classmethod
    def load(cls, place: Place, *, limit: int | None = None) -> Toy:
        assert place.weights is not None
        return cls(load_file(place.weights)["w"], read_config(place.beside("featx.json")), limit)

    @property
    def wants(self) -> Wants:
        return wants_of(self.about, DIM)

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        best = torch.zeros(len(questions)) if records is None else self._each(records, questions).amax(dim=1)
        return torch.stack([best, -best, torch.zeros_like(best)], dim=1)

    def match(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        best = self._each(records, texts).amax(dim=1)
        return torch.stack([torch.zeros_like(best), best], dim=1)

    def ground(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        each = self._each(records, texts)
        return torch.stack([torch.zeros_like(each), each], dim=2)

    def _each(self, records: RecordBatch, texts: Sequence[str]) -> torch.Tensor:
        found = (
            self.network(records.features)[..., 0] * torch.tensor([-1.0 if "not" in t else 1.0 for t in texts])[:, None]
        )
        return found.masked_fill(~records.mask, -1e4)


class Reader(Toy, TextEmbeddings):
    """A toy for which a text is a vector, in place of ``w``."""

    name = "toy-reader"

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        assert records is not None
        assert self.embed is not None
        best = torch.einsum("bnd,bd->bn", records.features, self.embed(questions)).amax(dim=1)
        return torch.stack([best, -best, torch.zeros_like(best)], dim=1)


def make_model(folder: Path, w: torch.Tensor, kind: str = KIND, wants: Mapping[str, Any] | None = None) -> Path:
    """A checkpoint of a toy."""
    folder.mkdir(parents=True)
    save_file({"w": w}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "featx.json").write_text(json.dumps({"wants": dict(wants or {})}))
    return folder
