"""Answers and rationales of VCR, chosen: ``featx.Chooser(model)("vcr1images", item)``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from featx.consumer import Chooses
from featx.data.vcr import CHOICES, VcrItem, item_from, leaderboard
from featx.errors import UsageError
from featx.pipeline import Pipeline
from featx.record import RecordBatch

Choice = dict[str, Any]  # {"score": [float] * 4, "pred": int}
What = Literal["answer", "rationale"]


class Chooser(Pipeline[Chooses]):
    """A model that chooses among answers and rationales. See :class:`featx.pipeline.Pipeline`."""

    ability = Chooses
    usual_batch = 8

    def __call__(
        self, vcr_image_root: str | os.PathLike[str], meta_inputs: Any, what: What = "answer", answer: int | None = None
    ) -> Any:
        """``[{"score": logits of the four, "pred": the best one's number}]``, as the original's pipelines have it.

        vcr_image_root: the folder in which ``img_fn`` and ``metadata_fn`` lie. meta_inputs: a line of VCR's file as a
        dict, or a list of such, which gives one entry for each; labels may be absent. what: ``answer`` (Q->A), or
        ``rationale`` (QA->R), of the answer of that number, by default ``answer_label``. The picture comes from the
        store if its key, the name of its file without folder and suffix, is there, and is extracted otherwise.
        Raises UsageError, KeyNotFound, PictureRefused.
        """
        several = isinstance(meta_inputs, list | tuple)
        items = [item_from(one, vcr_image_root) for one in (meta_inputs if several else [meta_inputs])]
        return list(self.choices(items, what, answer, vcr_image_root))

    def choices(
        self, items: Sequence[VcrItem], what: What = "answer", answer: int | None = None,
        pictures: str | os.PathLike[str] | None = None,
    ) -> Iterator[Choice]:  # fmt: skip
        """The same for items of :func:`featx.data.vcr.read_vcr`, batch by batch. pictures: the folder of those that are
        not in the store.
        """
        if what not in ("answer", "rationale"):
            raise UsageError(f"what is {what!r}", "choose answer or rationale")
        if answer is not None and answer not in range(CHOICES):
            raise UsageError(f"answer is {answer!r}", f"give a number from 0 to {CHOICES - 1}")
        given = [one.answer if answer is None else answer for one in items] if what == "rationale" else []
        bare = [one.id for one, number in zip(items, given, strict=False) if number is None]
        if bare:
            raise UsageError(f"{bare[0]} does not say which answer is right", "say of which answer: answer=0 to 3")
        for begin in range(0, len(items), self.batch):
            part = slice(begin, begin + self.batch)
            numbers = [number for number in given[part] if number is not None]
            yield from self._chosen(items[part], what, numbers, self._records(items[part], pictures))

    def leaderboard(
        self, items: Sequence[VcrItem], pictures: str | os.PathLike[str] | None = None, reasons: Chooser | None = None
    ) -> str:
        """The CSV of the leaderboard: chances of the answers, and of the rationales by each of the answers.

        reasons: the model of rationales where that is another one, as published.
        """
        answers = [_chances(one) for one in self.choices(items, "answer", None, pictures)]
        other = reasons or self
        by_answer = [[_chances(one) for one in other.choices(items, "rationale", answer, pictures)]
                     for answer in range(CHOICES)]  # fmt: skip
        return leaderboard([one.id for one in items], answers, list(zip(*by_answer, strict=True)))

    @torch.no_grad()
    def _chosen(
        self, items: Sequence[VcrItem], what: What, answers: Sequence[int], records: RecordBatch
    ) -> list[Choice]:
        found = self.model.choose(records, items) if what == "answer" else self.model.reason(records, items, answers)
        logits = found.float().cpu()
        return [{"score": row, "pred": best} for row, best in
                zip(logits.tolist(), logits.argmax(dim=1).tolist(), strict=True)]  # fmt: skip

    def _records(self, items: Sequence[VcrItem], pictures: str | os.PathLike[str] | None) -> RecordBatch:
        return self.sight.collate(self.sight.records([self._picture(one, pictures) for one in items]))

    def _picture(self, item: VcrItem, pictures: str | os.PathLike[str] | None) -> str:
        """The key, where a store holds it, or the file."""
        if self.sight.store is not None and (pictures is None or item.picture in self.sight.store):
            return item.picture
        if pictures is None:
            raise UsageError(f"nothing shows the picture of {item.id}", "give a store, or the folder of pictures")
        return str(Path(pictures) / item.file)


def _chances(choice: Choice) -> list[float]:
    found: list[float] = torch.tensor(choice["score"]).softmax(dim=0).tolist()
    return found
