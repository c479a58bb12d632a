"""``vle-vcr``: four answers to a question about objects of a picture, and four reasons for the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from featx.data.vcr import VcrItem
from featx.errors import UsageError
from featx.settings import read
from featx.task import Batch, Split, Task
from featx.tasks import corpus
from featx.tasks.vle.building import Start
from featx.tasks.vle.common import VleTask
from featx.tasks.vle.options import VcrOptions
from featx.vle.heads import Q2A, QA2R
from featx.vle.vcr import Reading, choice_logits, needed_types
from featx.vle.vcr_text import check_types, names_of, spoken

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch

_LEARNS = {"both": (Q2A, QA2R), "answers": (Q2A,), "rationales": (QA2R,)}


class VleVcr(VleTask):
    """The four candidates of an item are one batch that shares the rows of its picture; cross-entropy over the four.

    Rationales are about the right answer. What is trained is the sum of the losses of both heads, where both are.
    """

    name: ClassVar[str] = "vle-vcr"

    def __init__(self, options: VcrOptions) -> None:
        self.options, data = options, options.data
        found = {"train": corpus.vcr(data.train, "train"), "val": corpus.vcr(data.val, "val")}
        for split, items in found.items():
            check_labelled(items, split, self.heads)
        most = max((needed_types(one, self.heads) for items in found.values() for one in items), default=2)
        if options.model.weights is None and options.model.types is None:
            options = replace(options, model=replace(options.model, types=most))
        super().__init__(options, found, Start.of(options.model))
        self.reading = Reading.of(self.tokens, self.model, upstream_geometry=options.upstream_geometry)
        check_types(most, self.reading.types, "an item")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(VcrOptions, "", options))

    @property
    def heads(self) -> Sequence[str]:
        return _LEARNS[self.options.learns]

    def texts(self, example: VcrItem) -> list[str]:
        """Question, answers and rationales, each by itself, in the names of the objects."""
        names, _ = names_of(example.objects)
        parts = [example.question, *example.answers]
        parts += example.rationales if QA2R in self.heads else ()
        return ["".join(text for text, _ in spoken(words, names)) for words in parts]

    def prepare(
        self, examples: Sequence[VcrItem], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Grid, and for each head the tensors of :meth:`featx.vle.vcr.Reading.batch` and ``label [B]`` int64."""
        found = self.seen(records)
        assert records is not None
        rows = found["features"].shape[1]
        for head in self.heads:
            texts = [self.reading.texts(one, head) for one in examples]
            own = self.reading.batch(examples, texts, records, rows)
            own["label"] = torch.tensor([right(one, head) for one in examples], dtype=torch.int64)
            found |= {f"{head}.{name}": tensor for name, tensor in own.items()}
        return found

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The sum, and the loss of each head under its name."""
        each = {head: cross_entropy(self.logits(head, batch), batch[f"{head}.label"]) for head in self.heads}
        return {"loss": torch.stack(list(each.values())).sum(), **(each if len(each) > 1 else {})}

    def logits(self, head: str, batch: Batch) -> torch.Tensor:
        """``[B, 4]`` of the candidates of one head."""
        return choice_logits(self.model, head, batch, f"{head}.")

    def predict(self, batch: Batch) -> list[dict[str, int]]:
        """The number that each head chooses, by the name of the head."""
        found = {head: self.logits(head, batch).argmax(dim=1).tolist() for head in self.heads}
        return [dict(zip(found, chosen, strict=True)) for chosen in zip(*found.values(), strict=True)]

    def metric(self, examples: Sequence[VcrItem], predictions: Sequence[Any]) -> dict[str, float]:
        """Percent: ``Q->AR`` (both right, where both are learned), ``Q->A``, ``QA->R`` by the right answer."""
        hits = {head: [one[head] == right(item, head) for item, one in zip(examples, predictions, strict=True)]
                for head in self.heads}  # fmt: skip
        names = {Q2A: "Q->A", QA2R: "QA->R"}
        both = {"Q->AR": [all(pair) for pair in zip(*hits.values(), strict=True)]} if len(hits) > 1 else {}
        rows = {**both, **{names[head]: found for head, found in hits.items()}}
        return {name: round(100 * sum(row) / len(row), 2) for name, row in rows.items()}

    def examples(self, split: Split) -> Sequence[VcrItem]:
        found: Sequence[VcrItem] = super().examples(split)
        return found

    def said(self) -> Mapping[str, Any]:
        return {"upstream_geometry": self.options.upstream_geometry}


def right(item: VcrItem, head: str) -> int:
    """The number of the right candidate."""
    label = item.answer if head == Q2A else item.rationale
    assert label is not None, "checked when the task was built"
    return label


def check_labelled(items: Sequence[VcrItem], split: str, heads: Sequence[str]) -> None:
    """Raise UsageError when an item does not say which candidate is right; rationales need the answer, too."""
    fields = {"answer_label": "answer", **({"rationale_label": "rationale"} if QA2R in heads else {})}
    for field, name in fields.items():
        bare = [one.id for one in items if getattr(one, name) is None]
        if bare:
            raise UsageError(
                f"{len(bare)} of {len(items)} {split} items have no {field}, the first is {bare[0]!r}",
                "train and val need labels; featx.Chooser chooses without",
            )
