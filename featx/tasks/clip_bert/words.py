"""``clip-bert-mlm``: hidden words of sentences about pictures are to be guessed, as before the published fine-tuning.

The published ``clip-vision-bert-cc12m-60k`` guessed 15 % of the word pieces of captions in four languages before it
learned to answer. Every guess tells which words belong to which tokens of the picture; an answer alone tells much less,
and a small network that begins with answers hardly begins to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.clip_bert.consumer import save
from featx.clip_bert.losses import IGNORED, word_loss
from featx.clip_bert.network import ClipBert
from featx.data import Question
from featx.errors import UsageError
from featx.grids import blind, grid, words
from featx.lxmert.masking import mask_words
from featx.metrics.report import percent
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx.tasks import building as lxmert_building
from featx.tasks import corpus, pairs
from featx.tasks.about import about
from featx.tasks.clip_bert import building
from featx.tasks.clip_bert.options import MlmOptions
from featx.tasks.decay import decay_groups
from featx.wants import Wants

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class ClipBertMlm(Task):
    """Sentences of all languages in one list."""

    name: ClassVar[str] = "clip-bert-mlm"
    model: ClipBert

    def __init__(self, options: MlmOptions) -> None:
        self.options, data = options, options.data
        self._examples = {split: corpus.sentences(getattr(data, split), split) for split in ("train", "val")}
        start = building.Start.of(options.model)
        texts = [q.text for q in corpus.distinct(self._examples["train"])]
        more = (q.text for q in corpus.sentences(data.words, "words"))
        self.tokens = building.vocabulary(options.model, start, chain(texts, more))
        self.built = building.build_words(options.model, start, options.store, self.tokens)
        self.model = self.built.loaded.network
        self.notes = lxmert_building.cut_short(self.tokens, texts)
        self._about = start.about if start else {}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(MlmOptions, "", options))

    def wants(self) -> Wants:
        return self.built.wants

    def examples(self, split: Split) -> Sequence[Question]:
        found = self._examples[split]
        return corpus.with_other_pictures(found) if split == "val" and self.options.shuffle_pictures else found

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, some of them hidden, grid, and labels ``[B, L]`` int64: the hidden word pieces, -100 elsewhere.

        Evaluation hides the same words every time: chance comes from the ids of the examples.
        """
        if records is None:
            raise UsageError("CLIP-Vision-BERT reads a store", "name one in the configuration")
        chance = pairs.fixed(examples) if rngs is None else list(rngs)
        seen = blind(len(examples), self.model.dim) if self.options.zero_features else grid(records)
        found = words(self.tokens, [q.text for q in examples])
        hidden, labels = mask_words(
            found["input_ids"], found["attention_mask"], self.tokens, chance, self.options.hidden
        )
        return {**found, "input_ids": hidden, **seen, "labels": labels}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": word_loss(self.model.word_logits(batch, pictures=False), batch["labels"])}

    def predict(self, batch: Batch) -> list[list[bool]]:
        """Of each sentence, which of its hidden words were guessed."""
        guessed, wanted = self.model.word_logits(batch, pictures=False).argmax(dim=2), batch["labels"]
        asked = wanted != IGNORED
        return [(row == true)[there].tolist() for row, true, there in zip(guessed, wanted, asked, strict=True)]

    def metric(self, examples: Sequence[Question], predictions: Sequence[Any]) -> dict[str, float]:
        """Percent of the hidden words that were guessed: of all (``words``), then of each language."""
        hits: dict[str, list[float]] = {"words": []}
        for example, found in zip(examples, predictions, strict=True):
            for name in ("words", example.language or "no language"):
                hits.setdefault(name, []).extend(map(float, found))
        return {name: percent(found) for name, found in hits.items() if found}

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.options.decay)

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """A folder that ``clip-bert-vqa`` goes on from; it answers nothing yet."""
        said = about(
            self.name, self.built.wants, trained_on, start=self._about, extractor=self.options.extractor,
            max_length=self.tokens.max_length,
        )  # fmt: skip
        save(folder, self.model, self.built.loaded.config, self.tokens, None, said, self.options.save_dtype)
