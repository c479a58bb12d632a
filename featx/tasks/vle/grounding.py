"""``vle-pbc``: which patches of a picture a text is about, learned from the boxes of what it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featx.data.phrases import Phrase
from featx.errors import UsageError
from featx.metrics.ranking import average_precision, f1
from featx.settings import read
from featx.task import Batch, Task
from featx.tasks import corpus
from featx.tasks.vle.building import Start
from featx.tasks.vle.common import VleTask
from featx.tasks.vle.options import GroundingOptions
from featx.vle.heads import PBC
from featx.vle.losses import IGNORED, patch_loss
from featx.vle.patches import patch_labels

if TYPE_CHECKING:
    import numpy as np

    from featx.record import RecordBatch


class VlePbc(VleTask):
    """Examples are phrases, each with the boxes of everything in the picture that it fits."""

    name: ClassVar[str] = "vle-pbc"
    head: ClassVar[str] = PBC
    partial_graph: ClassVar[bool] = True  # the text side of the last layer and the poolers do not reach the patches

    def __init__(self, options: GroundingOptions) -> None:
        self.options, data = options, options.data
        found = {"train": corpus.phrases(data.train, "train"), "val": corpus.phrases(data.val, "val")}
        super().__init__(options, found, Start.of(options.model))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(GroundingOptions, "", options))

    def prepare(
        self, examples: Sequence[Phrase], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, grid, and labels ``[B, N]`` int64, see :func:`featx.vle.patches.patch_labels`."""
        given = self.inputs([one.text for one in examples], records)
        if records is None or not records.features.shape[1]:
            raise UsageError("patches are chosen from a grid, and these records have no rows", "extract a grid")
        labels = patch_labels(records.boxes, records.mask, [one.boxes for one in examples], self.options.share)
        if bool((labels == IGNORED).all()):
            raise UsageError(
                f"the record {examples[0].picture} has no cells: its one row is the whole view",
                "extract a grid, with tensor: last_hidden_state and cls: true",
            )
        return {**given, "labels": labels}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": patch_loss(self.model.patch_logits(self.states(batch)), batch["labels"])}

    def predict(self, batch: Batch) -> list[list[list[float]]]:
        """Of each example, the chances that patches are what the text is about: of those that are, and of others."""
        chances = self.model.patch_logits(self.states(batch)).float().softmax(dim=2)[:, :, 1]
        return [
            [[round(c, 4) for c in own[labels == kind].tolist()] for kind in (1, 0)]
            for own, labels in zip(chances, batch["labels"], strict=True)
        ]

    def metric(self, examples: Sequence[Phrase], predictions: Sequence[Any]) -> dict[str, float]:
        """Over the patches of all examples, 0 to 1: ``f1`` at a chance of 0.5, ``average precision``, and the share of
        patches that texts are about.
        """
        inside = [chance for one, _ in predictions for chance in one]
        outside = [chance for _, one in predictions for chance in one]
        chances, own = [*inside, *outside], [*[True] * len(inside), *[False] * len(outside)]
        found = {"f1": round(f1(own, [chance > 0.5 for chance in chances]), 4)}
        if inside:
            found["average precision"] = round(average_precision(own, chances), 4)
        return {**found, "share": round(len(inside) / max(1, len(own)), 4)}
