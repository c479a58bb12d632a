"""Whether texts are about pictures: ``featx.Matcher(model)("photo.jpg", "a red car")``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from featx import pairing
from featx.consumer import Matches
from featx.extractor import Extractor
from featx.sight import Sight, Stored

Match = dict[str, Any]  # {"score": [that it is not, that it is], "match": "True" | "False"}


class Matcher:
    """A model that matches texts and pictures, and where records come from: see :class:`featx.sight.Sight`.

    options: those of the kind of model (tokenizer, ...). batch: pairs per call of the network.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        store: Stored | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
        device: str = "cpu",
        batch: int = 32,
        allow_mismatch: bool = False,
        **options: Any,
    ) -> None:
        self.batch = pairing.count("batch", batch)
        self.model: Matches
        self.model, self.sight = Sight.of(
            os.fspath(model), Matches, store, extractor, device=device, allow_mismatch=allow_mismatch, **options
        )

    @torch.no_grad()
    def __call__(self, image_or_key: Any = None, text: Any = None, *, image: Any = None) -> Any:
        """``{"score": [p_false, p_true], "match": "True"}``: softmax of both, and the likelier.

        image_or_key (or image): as for :meth:`featx.Predictor.__call__`; lists, of ``{"image", "text"}`` too, give a
        list. Raises UsageError, KeyNotFound, PictureRefused.
        """
        images, texts, single = pairing.paired(image_or_key if image is None else image, text, "text")
        records = self.sight.records(images)
        found: list[Match] = []
        for begin in range(0, len(images), self.batch):
            part = slice(begin, begin + self.batch)
            logits = self.model.match(self.sight.collate(records[part]), texts[part])
            found += [
                {"score": both, "match": str(both[1] > both[0])} for both in logits.float().softmax(dim=1).tolist()
            ]
        return found[0] if single else found
