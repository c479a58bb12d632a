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
from featx.data import Question
from featx.lxmert.masking import mask_words
from featx.metrics.report import percent
from featx.settings import read
from featx.task import Batch, Task
from featx.tasks import building as lxmert_building
from featx.tasks import corpus, pairs
from featx.tasks.clip_bert import building
from featx.tasks.clip_bert.common import ClipBertTask
from featx.tasks.clip_bert.options import MlmOptions

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class ClipBertMlm(ClipBertTask):
    """Sentences of all languages in one list."""

    name: ClassVar[str] = "clip-bert-mlm"

    def __init__(self, options: MlmOptions) -> None:
        self.options, data = options, options.data
        start = building.Start.of(options.model)
        sentences = {"train": corpus.sentences(data.train, "train"), "val": corpus.sentences(data.val, "val")}
        super().__init__(options, sentences, start)
        texts = [q.text for q in corpus.distinct(sentences["train"])]
        more = (q.text for q in corpus.sentences(data.words, "words"))
        self.tokens = building.vocabulary(options.model, start, chain(texts, more))
        self.built = building.build_words(options.model, start, options.store, self.tokens)
        self.model = self.built.loaded.network
        self.notes = lxmert_building.cut_short(self.tokens, texts)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(MlmOptions, "", options))

    def prepare(
        self, examples: Sequence[Question], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, some of them hidden, grid, and labels ``[B, L]`` int64: the hidden word pieces, -100 elsewhere.

        Evaluation hides the same words every time: chance comes from the ids of the examples.
        """
        chance, found = pairs.fixed(examples) if rngs is None else list(rngs), self.inputs(examples, records)
        hidden, labels = mask_words(
            found["input_ids"], found["attention_mask"], self.tokens, chance, self.options.hidden
        )
        return {**found, "input_ids": hidden, "labels": labels}

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

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """A folder that ``clip-bert-vqa`` goes on from; it answers nothing yet."""
        said, config = self.said(trained_on), self.built.loaded.config
        save(folder, self.model, config, self.tokens, None, said, self.options.save_dtype)
