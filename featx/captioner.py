"""Captions of pictures: ``featx.Captioner(model)("photo.jpg", "fr")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from featx import pairing
from featx.consumer import Captions
from featx.errors import UsageError
from featx.pipeline import Pipeline

BEAMS, MAX_LENGTH = 4, 64  # of the published inference


class Captioner(Pipeline[Captions]):
    """A model that writes captions. See :class:`featx.pipeline.Pipeline`."""

    ability = Captions

    @property
    def languages(self) -> Sequence[str]:
        """What it was trained to write, as ``en``, ``fr``, ..."""
        return self.model.languages

    @torch.no_grad()
    def __call__(
        self, image_or_key: Any, language: str = "en", num_beams: int = BEAMS, max_length: int | None = None
    ) -> Any:
        """A sentence; for a list or generator of images a list of them.

        image_or_key: as for :meth:`featx.Predictor.__call__`, ``{"image": ...}`` too. language: ``fr`` or ``fr_XX``.
        num_beams: 1 is greedy. max_length: in tokens, by default 64, or the fewer that the model has room for.
        Raises UsageError, KeyNotFound, PictureRefused.
        """
        length = self.check(language, num_beams, max_length)
        several = isinstance(image_or_key, list | tuple | Iterator)
        images = list(image_or_key) if several else [image_or_key]
        records = self.sight.records([one["image"] if _named(one) else one for one in images])
        found: list[str] = []
        for begin in range(0, len(records), self.batch):
            batch = self.sight.collate(records[begin : begin + self.batch])
            found += self.model.caption(batch, language, num_beams, length)
        return found if several else found[0]

    @torch.no_grad()
    def split(
        self, keys: Sequence[str], language: str = "en", num_beams: int = BEAMS, max_length: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """(key, caption) of pictures of the store, batch by batch, in their order."""
        if self.sight.store is None:
            raise UsageError("a whole split is of the pictures of a store", "give the store")
        length = self.check(language, num_beams, max_length)
        for begin in range(0, len(keys), self.batch):
            part = keys[begin : begin + self.batch]
            records = self.sight.store.get_batch(part)
            yield from zip(part, self.model.caption(records, language, num_beams, length), strict=True)

    def check(self, language: str, num_beams: int, max_length: int | None) -> int:
        """The most tokens of a caption. Raises UsageError for a language that the model was not trained to write, for
        numbers below 1 and 3, and for more tokens than it has room for.
        """
        pairing.count("num_beams", num_beams)
        room = self.model.room
        if max_length is None:
            max_length = MAX_LENGTH if room is None else min(MAX_LENGTH, room)
        if pairing.count("max_length", max_length) < 3:
            raise UsageError(
                f"max_length is {max_length}", "leave room for the language, a word and the end: 3 or more"
            )
        if room is not None and max_length > room:
            raise UsageError(
                f"max_length is {max_length}, the model {self.sight.location} has room for {room}", f"{room} or fewer"
            )
        if not isinstance(language, str) or language.partition("_")[0] not in self.languages:
            raise UsageError(
                f"the model {self.sight.location} does not write {language!r}", f"it writes {', '.join(self.languages)}"
            )
        return max_length


def _named(image: Any) -> bool:
    return isinstance(image, Mapping) and "image" in image
