"""``vle-itm``: whether a text is about a picture, learned from captions and those of other pictures."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from featx.data import Caption
from featx.metrics.ranking import average_precision
from featx.settings import read
from featx.task import Batch, Task
from featx.tasks import corpus
from featx.tasks.vle.building import Start
from featx.tasks.vle.common import VleTask
from featx.tasks.vle.options import MatchingOptions
from featx.vle.heads import ITM
from featx.vle.losses import match_loss

if TYPE_CHECKING:
    from featx.record import RecordBatch

_TRIES = 100  # to meet a text of another picture; a corpus of one picture has none


class VleItm(VleTask):
    """Every caption is an example; whether it is replaced, and by which one, is drawn for it in every epoch.

    Evaluation draws the same each time, from the id of the example.
    """

    name: ClassVar[str] = "vle-itm"
    head: ClassVar[str] = ITM

    def __init__(self, options: MatchingOptions) -> None:
        self.options, data = options, options.data
        found = {"train": corpus.captions(data.train, "train"), "val": corpus.captions(data.val, "val")}
        self._others = {split: Others(captions) for split, captions in found.items()}
        super().__init__(options, found, Start.of(options.model))
        self.notes = [*self.notes, *(note for split in found for note in self._others[split].notes(split))]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        return cls(read(MatchingOptions, "", options))

    def prepare(
        self, examples: Sequence[Caption], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        """Words, grid, and matched ``[B]`` int64."""
        others = self._others["val" if rngs is None else "train"]
        drawn = [
            others.drawn(one, self.options.swap, rng)
            for one, rng in zip(examples, fixed(examples) if rngs is None else rngs, strict=True)
        ]
        matched = torch.tensor([own for _, own in drawn], dtype=torch.int64)
        return {**self.inputs([text for text, _ in drawn], records), "matched": matched}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": match_loss(self.model.match_logits(self.states(batch)), batch["matched"])}

    def predict(self, batch: Batch) -> list[list[float]]:
        """Of each example, the chance of a match, and 1 if it is one."""
        chances = self.model.match_logits(self.states(batch)).float().softmax(dim=1)[:, 1]
        return [[chance, own] for chance, own in zip(chances.tolist(), batch["matched"].tolist(), strict=True)]

    def metric(self, examples: Sequence[Caption], predictions: Sequence[Any]) -> dict[str, float]:
        """``accuracy`` in percent; ``average precision`` of matches, 0 to 1; percent of the majority."""
        chances, own = [chance for chance, _ in predictions], [bool(match) for _, match in predictions]
        right = sum((chance > 0.5) == match for chance, match in zip(chances, own, strict=True))
        found = {"accuracy": round(100 * right / len(own), 2)}
        if any(own):
            found["average precision"] = round(average_precision(own, chances), 4)
        return {**found, "always the same": round(100 * max(sum(own), len(own) - sum(own)) / len(own), 2)}


class Others:
    """The captions of a split, to take those of other pictures from."""

    def __init__(self, captions: Sequence[Caption]) -> None:
        self._captions: dict[str, list[Caption]] = {}
        self._said: dict[str, set[str]] = {}
        for one in captions:
            self._captions.setdefault(one.language, []).append(one)
            self._said.setdefault(one.picture, set()).add(one.text)

    def notes(self, split: str) -> list[str]:
        """Of each language in which there is one picture alone, that its captions are all taken for matches."""
        pictures = {language: {one.picture for one in found} for language, found in self._captions.items()}
        return [
            f"the {split} captions in {language} are all of the picture {next(iter(own))}: none is of another, "
            "so they all match"
            for language, own in pictures.items()
            if len(own) < 2
        ]

    def drawn(self, example: Caption, swap: float, rng: np.random.Generator) -> tuple[str, bool]:
        """A text for the picture of an example, and whether it is its own.

        The text of another picture is in the same language, and nothing that is said about this one.
        """
        if rng.random() >= swap:
            return example.text, True
        pool, said = self._captions[example.language], self._said.get(example.picture, set())
        for _ in range(_TRIES):
            other = pool[int(rng.integers(len(pool)))]
            if other.picture != example.picture and other.text not in said:
                return other.text, False
        return example.text, True


def fixed(examples: Sequence[Caption]) -> list[np.random.Generator]:
    """A generator for each example that depends on it alone."""
    return [np.random.default_rng(zlib.crc32(f"{one.id} {one.text}".encode())) for one in examples]
