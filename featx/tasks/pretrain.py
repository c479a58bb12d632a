"""``lxmert-pretrain``: sentences about pictures; hidden words, hidden regions and whether both match are to be guessed.

Rates and weights are the published ones: 15 % of the word pieces and of the regions are hidden, every second sentence
is one of another picture, all objectives weigh the same (Tan and Bansal 2019; airsplay/lxmert).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from featx.data import Question
from featx.errors import UsageError
from featx.lxmert.folder import Model, save_model
from featx.lxmert.heads import objective_sums, pretraining_losses, pretraining_scores
from featx.lxmert.inputs import regions, words
from featx.lxmert.masking import mask_regions, mask_words
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx.tasks import building, corpus, pairs
from featx.tasks.about import about
from featx.tasks.decay import decay_groups
from featx.tasks.guesses import figures, guesses
from featx.tasks.options import PretrainOptions
from featx.tasks.region_labels import FIELDS, region_labels
from featx.tasks.stores import other_regions
from featx.wants import Wants, wants_of

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class LxmertPretrain(Task):
    """LxmertForPreTraining on sentences and the regions of a store."""

    name: ClassVar[str] = "lxmert-pretrain"
    model: Any
    partial_graph: ClassVar[bool] = True  # a batch without a question leaves the answer head out
    score: ClassVar[Literal["softmax", "sigmoid"] | None] = "softmax"

    def __init__(self, options: PretrainOptions) -> None:
        self.options, data = options, options.data
        self._examples = {split: corpus.sentences(getattr(data, split), split) for split in ("train", "val")}
        self._examples = {split: corpus.converted(found) for split, found in self._examples.items()}
        start = building.Start.of(options.model)
        everything = corpus.distinct(q for split in self._examples.values() for q in split)
        self.answers = corpus.answer_space(data.answers, everything) or (start.answers if start else None)
        asked = corpus.distinct(self._examples["train"])
        self.tokens = building.vocabulary(options.model, start, (q.text for q in asked))
        self.model = building.pretraining(options, start, self.tokens, self.answers)
        self._others = other_regions(options.store)
        self._about = start.about if start else {}
        fields = tuple(f for name in options.objectives for f in FIELDS.get(name, ()))
        self._wants = wants_of(self._about, self.model.config.visual_feat_dim, fields)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(PretrainOptions, "", options))

    def wants(self) -> Wants:
        return self._wants

    def examples(self, split: Split) -> Sequence[Question]:
        return self._examples[split]

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Inputs with something hidden, and labels for it; see :func:`featx.lxmert.heads.pretraining_losses`.

        Evaluation hides the same things every time: chance comes from the ids of the examples.
        """
        if records is None:
            raise UsageError("LXMERT reads a store", "name one in the configuration")
        chance = pairs.fixed(examples) if rngs is None else list(rngs)
        pool = self._examples["train"] or self._examples["val"]
        swap = self.options.swap if "matched" in self.options.objectives else 0.0
        texts, matched = pairs.swapped(examples, pool, swap, chance)
        found = words(self.tokens, texts)
        ids, labels = mask_words(found["input_ids"], found["attention_mask"], self.tokens, chance)
        features, hidden = mask_regions(records.features, records.mask, self._others, chance)
        batch = {**found, "input_ids": ids, **regions(records), "visual_feats": features}
        if "words" in self.options.objectives:
            batch["word_labels"] = labels
        if "matched" in self.options.objectives:
            batch["matched"] = torch.tensor(matched, dtype=torch.int64)
        if "answers" in self.options.objectives:
            assert self.answers is not None, "building.pretraining has refused that"
            batch["answers"] = torch.tensor(pairs.drawn_answers(examples, matched, self.answers, chance))
        return batch | region_labels(self.options.objectives, records, hidden)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return pretraining_losses(self.model, batch)

    def predict(self, batch: Batch) -> list[Any]:
        """For each example and objective what it adds to the figures, see :mod:`featx.tasks.guesses`."""
        scores = pretraining_scores(self.model, batch)
        return guesses(scores, batch, objective_sums(scores, batch, self.model.visual_loss_normalizer))

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """``negative_loss``, by which airsplay/lxmert chooses, too; then percent of right guesses by objective."""
        return figures(predictions)

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.options.decay)

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """As :meth:`featx.tasks.answering.Answering.export`; the network keeps all its heads."""
        said = about(
            self.name, self._wants, trained_on, start=self._about, extractor=self.options.extractor,
            max_length=self.tokens.max_length,
        )  # fmt: skip
        save_model(folder, Model(self.model, self.tokens, self.answers, said), self.options.save_dtype)
