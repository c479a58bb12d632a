"""``clip-mbart-captions``: mBART's decoder learns to describe the grids of a store in several languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.clip_mbart.consumer import save
from featx.clip_mbart.generate import Search, start_id, write
from featx.clip_mbart.losses import caption_loss, shifted
from featx.clip_mbart.network import caption_logits, encoded
from featx.data import Caption
from featx.errors import UsageError
from featx.metrics.bleu import tokens as split_words
from featx.settings import read
from featx.task import Batch, Group, Split, Task
from featx.tasks import corpus
from featx.tasks.about import about
from featx.tasks.captions import building
from featx.tasks.captions.examples import Described, captions, described
from featx.tasks.captions.options import CaptionOptions
from featx.tasks.captions.scores import bleu_of
from featx.tasks.cut import cut_short
from featx.tasks.decay import decay_groups
from featx.towered import SWITCHES, wants_of_grid
from featx.wants import Wants

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class ClipMbartCaptions(Task):
    """Every caption is an example of training; of evaluation, every picture in each of its languages."""

    name: ClassVar[str] = "clip-mbart-captions"
    model: Any

    def __init__(self, options: CaptionOptions) -> None:
        self.options, data = options, options.data
        found = captions(data.train, "train")
        self._train, self._val = found, described(captions(data.val, "val"))
        if self._val:
            split_words("", options.bleu)  # an absent sacrebleu is told before the first epoch, not after it
        start = building.Start.of(options.model)
        self.tokens = building.vocabulary(options.model, start, found)
        loaded = building.network(options.model, start, self.tokens, options.store)
        self.model, self._config = loaded.network, loaded.config
        self.languages = list(dict.fromkeys([*(one.language for one in found), *(one.language for one in self._val)]))
        for language in self.languages:
            self.tokens.code(language)
        self.search = self._search()
        self.notes = self._cut_short()
        self._about = start.about if start else {}
        self._wants = wants_of_grid(self._about, self.model.model.visual_projection.in_features)
        if loaded.tower is not None:
            self._wants = Wants(dim=self._wants.dim, weights=loaded.tower, switches=SWITCHES)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(CaptionOptions, "", options))

    def wants(self) -> Wants:
        return self._wants

    def examples(self, split: Split) -> Sequence[Any]:
        if split == "train":
            return self._train
        return corpus.with_other_pictures(self._val) if self.options.shuffle_pictures else self._val

    def prepare(
        self, examples: Sequence[Any], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """features ``[B, N, D]`` and their mask ``[B, N]``; labels and which are real ``[B, L]``; codes ``[B]``.

        Labels are the language's code, the caption, ``</s>``, and padding. All int64 or bool but the features.
        """
        if records is None:
            raise UsageError("captions are written about records", "name a store in the configuration")
        features, mask = records.features, records.mask
        if self.options.zero_features or not features.shape[1]:
            features = torch.zeros(len(examples), 1, features.shape[2])
            mask = torch.ones(len(examples), 1, dtype=torch.bool)
        words = self.tokens.encode([one.text for one in examples], [one.language for one in examples])
        return {"features": features, "mask": mask, "labels": words.ids, "real": words.mask, "codes": words.ids[:, 0]}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross entropy of every token, the language among them, as published."""
        ids = shifted(batch["labels"], start_id(self.model, self.options.start))
        seen = encoded(self.model, batch["features"])
        logits = caption_logits(self.model, seen, batch["mask"], ids, batch["real"])
        return {"loss": caption_loss(logits, batch["labels"], batch["real"], self.options.smoothing)}

    def predict(self, batch: Batch) -> list[str]:
        """A caption for each example, in its language."""
        seen, found = encoded(self.model, batch["features"]), [""] * len(batch["codes"])
        for code in batch["codes"].unique().tolist():
            rows = (batch["codes"] == code).nonzero()[:, 0]
            ids = write(self.model, seen[rows], batch["mask"][rows], code, self.search).ids
            for row, text in zip(rows.tolist(), self.tokens.decode(ids.tolist()), strict=True):
                found[row] = text
        return found

    def _search(self) -> Search:
        """How captions are written; with the token they start from they are one longer than labels."""
        how = self.options.search
        room = int(self.model.config.max_position_embeddings)
        if how.max_length is not None and how.max_length > room:
            raise UsageError(
                f"search.max_length is {how.max_length}, the model has room for {room}", f"{room} or fewer"
            )
        length = how.max_length or min(self.tokens.max_length + 1, room)
        return Search(how.beams, length, how.length_penalty, how.early_stopping, self.options.start)

    def metric(self, examples: Sequence[Described], predictions: Sequence[Any]) -> dict[str, float]:
        """See :func:`featx.tasks.captions.scores.bleu_of`."""
        return bleu_of(examples, predictions, self.options.bleu)

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.options.decay)

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """The folder that ``featx caption`` reads, see :mod:`featx.clip_mbart.consumer`."""
        said = about(
            self.name, self._wants, trained_on, start=self._about, extractor=self.options.extractor,
            languages=self.languages, start_token=self.options.start, max_length=self.tokens.max_length,
        )  # fmt: skip
        save(folder, self.model, self._config, self.tokens, said, self.options.save_dtype)

    def _cut_short(self) -> list[str]:
        """A note when captions are longer than the model reads."""

        def cut(some: Sequence[Caption]) -> int:
            return self.tokens.encode([c.text for c in some], [c.language for c in some]).truncated

        return cut_short(self._train, cut, self.tokens.max_length, "captions")
