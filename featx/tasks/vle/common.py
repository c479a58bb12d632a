"""What VLE's tasks share: texts about grids, one head, groups of parameters, an exported folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.data import AnswerSpace
from featx.errors import UsageError
from featx.grids import grid, words
from featx.task import Batch, Group, Split, Task
from featx.tasks import corpus
from featx.tasks.about import about
from featx.tasks.vle.building import Built, Start, build
from featx.tasks.vle.groups import groups_of
from featx.tasks.vle.options import TaskOptions
from featx.vle.consumer import save
from featx.vle.inputs import arguments
from featx.vle.network import States, Vle
from featx.wants import Wants

if TYPE_CHECKING:
    from featx.record import RecordBatch


class VleTask(Task):
    """A network with one head, or more; examples are dataclasses with ``picture`` and ``text``."""

    head: ClassVar[str]
    model: Vle
    answers: AnswerSpace | None = None

    def __init__(
        self, options: TaskOptions, examples: Mapping[str, Sequence[Any]], start: Start | None,
        answers: AnswerSpace | None = None,
    ) -> None:  # fmt: skip
        self.settings, self._examples, self.answers = options, examples, answers
        texts = list(dict.fromkeys(text for one in examples["train"] for text in self.texts(one)))
        self.built: Built = build(options.model, start, options.store, self.heads, texts, answers)
        self.model, self.tokens, self.notes = self.built.network, self.built.tokens, self.built.notes

    def wants(self) -> Wants:
        return self.built.wants

    def examples(self, split: Split) -> Sequence[Any]:
        found = self._examples[split]
        return corpus.with_other_pictures(found) if split == "val" and self.settings.shuffle_pictures else found

    @property
    def heads(self) -> Sequence[str]:
        """The heads that are trained."""
        return [self.head]

    def texts(self, example: Any) -> list[str]:
        """What is read of an example."""
        return [example.text]

    def inputs(self, texts: Sequence[str], records: RecordBatch | None) -> dict[str, torch.Tensor]:
        """Texts and grids as tensors."""
        return {**words(self.tokens, texts), **self.seen(records)}

    def seen(self, records: RecordBatch | None) -> dict[str, torch.Tensor]:
        """Grids as tensors."""
        if records is None:
            raise UsageError("VLE reads a store", "name one in the configuration")
        seen = grid(records)
        if self.settings.zero_features:
            seen["features"] = torch.zeros_like(seen["features"])
        return seen

    def states(self, batch: Batch) -> States:
        """Both streams of a batch behind the last layer."""
        states: States = self.model(**arguments(batch))
        return states

    def groups(self) -> list[Group]:
        return groups_of(self.model, self.settings.rates, self.settings.decay)

    def said(self) -> Mapping[str, Any]:
        """What an exported model says of itself besides."""
        return {}

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """The folder that ``featx ask``, ``match`` or ``ground`` reads, see :mod:`featx.vle.consumer`."""
        said = about(
            self.name, self.built.wants, trained_on, start=self.built.about, extractor=self.settings.extractor,
            max_length=self.tokens.max_length, **self.said(),
        )  # fmt: skip
        save(folder, self.model, self.built.config, self.tokens, said, self.answers, self.settings.save_dtype)
