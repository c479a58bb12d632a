"""Which cells of a picture a text is about: ``featx.Grounder(model)("photo.jpg", "a red car")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from featx import pairing
from featx.consumer import Grounds
from featx.draw.ground import darkened
from featx.draw.views import are_cells
from featx.live import pixels_of
from featx.pipeline import Pipeline
from featx.record import Record
from featx.schema import Array


@dataclass(frozen=True, eq=False)
class Grounding:
    """rows ``[P]`` of the record that are cells, their boxes ``[P, 4]`` in pixels, score ``[P, 2]``: that the text is
    not about the cell, and that it is (they sum to 1); share ``[P]``: of each cell in the light, which sum to 1 too.
    """

    rows: Array
    boxes: Array
    score: Array
    share: Array


class Grounder(Pipeline[Grounds]):
    """A model that finds what a text is about. See :class:`featx.pipeline.Pipeline`."""

    ability = Grounds

    def __call__(self, image_or_key: Any = None, text: Any = None, *, image: Any = None) -> Any:
        """``{"score": [P, 2], "image": PIL image}``: of each patch, and the picture darkened where the text is not
        about it (None for a key of a store, which has no pixels).

        image_or_key (or image): as for :meth:`featx.Predictor.__call__`; lists, of ``{"image", "text"}`` too, give a
        list. Raises UsageError, KeyNotFound, PictureRefused.
        """
        images, texts, single = pairing.paired(image_or_key if image is None else image, text, "text")
        found = [self._shown(one, words) for one, words in zip(images, texts, strict=True)]
        return found[0] if single else found

    @torch.no_grad()
    def ground(self, record: Record, text: str) -> Grounding:
        """The cells of a record, and how much the text is about each."""
        logits = self.model.ground(self.sight.collate([record]), [pairing.stated(text, "text")])[0, : len(record)]
        rows = np.flatnonzero(are_cells(record.boxes[: len(record)]))
        cells = logits.float().cpu()[torch.from_numpy(rows)]
        return Grounding(
            rows, record.boxes[rows], cells.softmax(dim=1).numpy(), cells[:, 1].softmax(dim=0).numpy()
        )  # fmt: skip

    def _shown(self, image: Any, text: str) -> dict[str, Any]:
        record = self.sight.record(image)
        found = self.ground(record, text)
        picture = None
        if not isinstance(image, Record) and not self.sight.is_key(image):
            from PIL import Image

            picture = Image.fromarray(darkened(pixels_of(image), found.boxes, found.share))
        return {"score": found.score, "image": picture}
