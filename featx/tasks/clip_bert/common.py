"""What both tasks of CLIP-Vision-BERT share: questions or sentences about grids, one network, groups of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from featx.clip_bert.network import ClipBert
from featx.data import Question
from featx.errors import UsageError
from featx.grids import blind, grid, words
from featx.task import Group, Split, Task
from featx.tasks import corpus
from featx.tasks.about import about
from featx.tasks.clip_bert.building import Built, Start
from featx.tasks.clip_bert.options import ClipBertOptions, MlmOptions
from featx.tasks.decay import decay_groups
from featx.text.wordpiece import Tokens
from featx.wants import Wants

if TYPE_CHECKING:
    from featx.record import RecordBatch


class ClipBertTask(Task):
    """One list of all languages for each split; a subclass makes ``built`` and ``tokens`` with what it learns."""

    model: ClipBert
    built: Built
    tokens: Tokens

    def __init__(
        self, options: ClipBertOptions | MlmOptions, examples: Mapping[str, Sequence[Question]], start: Start | None
    ) -> None:
        self.settings, self._examples = options, examples
        self._about = start.about if start else {}

    def wants(self) -> Wants:
        return self.built.wants

    def examples(self, split: Split) -> Sequence[Question]:
        found = self._examples[split]
        return corpus.with_other_pictures(found) if split == "val" and self.settings.shuffle_pictures else found

    def inputs(self, examples: Sequence[Question], records: RecordBatch | None) -> dict[str, torch.Tensor]:
        """Words and grids as tensors."""
        if records is None:
            raise UsageError("CLIP-Vision-BERT reads a store", "name one in the configuration")
        seen = blind(len(examples), self.model.dim) if self.settings.zero_features else grid(records)
        return {**words(self.tokens, [q.text for q in examples]), **seen}

    def groups(self) -> list[Group]:
        return decay_groups(self.model, self.settings.decay)

    def said(self, trained_on: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """What an exported model says of itself."""
        return about(
            self.name, self.built.wants, trained_on, start=self._about, extractor=self.settings.extractor,
            max_length=self.tokens.max_length, **more,
        )  # fmt: skip
