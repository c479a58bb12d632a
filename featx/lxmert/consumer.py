"""LXMERT as a model that answers questions about the regions of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place
from featx.consumer import Answers, Card
from featx.lxmert.folder import Model, model_at
from featx.lxmert.inputs import Batch, blind, regions, words
from featx.lxmert.network import answer_logits, attended
from featx.text.library import tokenizers, transformers
from featx.wants import Wants, wants_of

if TYPE_CHECKING:
    from featx.record import RecordBatch


class Lxmert(Answers):
    """A network of transformers with its answers. See :mod:`featx.lxmert.folder` for its files."""

    network: Any
    name: ClassVar[str] = "lxmert"
    card: ClassVar[Card] = Card(
        title="LXMERT: questions about detected regions (Tan and Bansal 2019)",
        reads="features and boxes of the regions of a Faster R-CNN, 36 of 2048 numbers for the published weights",
        checkpoints=(
            "unc-nlp/lxmert-base-uncased, unc-nlp/lxmert-vqa-uncased, unc-nlp/lxmert-gqa-uncased",
            "transformers: config.json with model.safetensors or pytorch_model.bin",
            "airsplay/lxmert: snapshots of pre-training, VQA and GQA (.pth)",
        ),
        verified="the logits, losses and steps of transformers and of airsplay/lxmert on the published fixtures",
        tasks=("lxmert-vqa", "lxmert-gqa", "lxmert-pretrain"),
        recipes=(
            "lxmert_vqa.yaml",
            "lxmert_gqa.yaml",
            "lxmert_pretrain.yaml",
            "lxmert_scenes.yaml",
            "lxmert_ask.yaml",
        ),
    )

    def __init__(self, model: Model) -> None:
        assert model.answers is not None, "folder.model_at has refused that"
        self.network, self.tokens, self.answers, self.about = model.network, model.tokens, model.answers, model.about
        self.max_length = model.tokens.max_length
        self.score = "softmax" if self.about.get("loss") in ("ce", "mce") else "sigmoid"

    @classmethod
    def check_available(cls) -> None:
        """Raise MissingDependency without transformers or tokenizers."""
        transformers()
        tokenizers()

    @classmethod
    def recognises(cls, place: Place) -> bool:
        """By ``config.json``; weights without one, as airsplay/lxmert saves them, are taken for LXMERT's."""
        return bool(read_config(place.beside("config.json")).get("model_type", cls.name) == cls.name)

    @classmethod
    def load(
        cls, place: Place, *, answers: str | None = None, tokenizer: str | None = None, heads: int | None = None
    ) -> Lxmert:
        """answers, tokenizer: files of published weights, which are not beside them. heads: attention heads, where
        there is no ``config.json`` and they are not 64 wide.
        """
        where = place.hub_id or str(place.weights or place.folder)
        return cls(model_at(place, where, answers=answers, tokenizer=tokenizer, heads=heads))

    @property
    def wants(self) -> Wants:
        return wants_of(self.about, self.network.config.visual_feat_dim)

    def logits(self, records: RecordBatch | None, questions: Sequence[str]) -> torch.Tensor:
        return answer_logits(self.network, self._batch(records, questions))

    def attended(self, records: RecordBatch, questions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return attended(self.network, self._batch(records, questions))

    def is_cut(self, text: str) -> bool:
        return self.tokens.encode([text]).truncated > 0

    def _batch(self, records: RecordBatch | None, questions: Sequence[str]) -> Batch:
        seen = blind(len(questions), self.network.config.visual_feat_dim) if records is None else regions(records)
        device = next(self.network.parameters()).device
        return {name: tensor.to(device) for name, tensor in {**words(self.tokens, questions), **seen}.items()}
