"""Whether texts are about pictures: ``featx.Matcher(model)("photo.jpg", "a red car")``."""

from __future__ import annotations

from typing import Any

import torch

from featx import pairing
from featx.consumer import Matches
from featx.pipeline import Pipeline

Match = dict[str, Any]  # {"score": [that it is not, that it is], "match": "True" | "False"}


class Matcher(Pipeline[Matches]):
    """A model that matches texts and pictures. See :class:`featx.pipeline.Pipeline`."""

    ability = Matches

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
