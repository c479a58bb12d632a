"""Which regions an answer depends on, by hiding them one after the other (Zeiler and Fergus 2014, section 4.2).

Attention exists in some models only and does not say what an answer depends on; this asks the model itself, whatever it
is: the same question with one region hidden, all in one batch. A region's weight is by how much the score of the answer
falls, in the unit of the score; below zero, the answer became surer.

Hidden is: features of zeros. A detected region is taken out of the mask as well, so that it is not there at all. The
cells of a grid stay, for where they are and how many is part of what such a model was trained with. Where there are
more than 64 regions, those whose centres lie in the same of 8 x 8 fields of the picture are hidden together and weigh
the same; one that is more than half of the picture (a class token) is hidden alone. So a question costs at most some 65
others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from featx.predictor import Predictor
    from featx.record import Record, RecordBatch

FIELDS = 8  # along a side
ALONE = FIELDS * FIELDS  # so many regions are hidden one by one
CHUNK = 32  # questions to the network at once


def weights(predictor: Predictor, record: Record, question: str) -> list[float]:
    """The weight of each real region of ``record`` for the surest answer to ``question``."""
    import torch

    if not len(record):
        return []
    groups = hidden_together(record)
    hidden = torch.from_numpy(np.arange(groups.max() + 1)[:, None] == groups)
    hidden = torch.cat([torch.zeros(1, len(record), dtype=torch.bool), hidden])  # first nothing is hidden
    one = predictor.sight.collate([record])
    objects = "object_ids" in record.extra
    with torch.inference_mode():
        logits = torch.cat(
            [
                predictor.model.logits(_without(one, part, objects), [question] * len(part))
                for part in hidden.split(CHUNK)
            ]
        )
        scores = _scores(logits.float(), predictor.score)
    kept = scores[:, scores[0].argmax()]
    drops = (kept[0] - kept[1:]).tolist()
    return [drops[group] for group in groups]


def hidden_together(record: Record) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of the group of each real region, from 0 on without gaps."""
    count = len(record)
    if count <= ALONE:
        return np.arange(count)
    boxes, (height, width) = record.boxes[:count].astype(np.float64), record.size
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2 / width, (boxes[:, 1] + boxes[:, 3]) / 2 / height
    places = (np.stack([y, x]).clip(0, 1) * FIELDS).astype(np.int64).clip(0, FIELDS - 1)
    groups = places[0] * FIELDS + places[1]
    large = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > height * width / 2
    groups[large] = ALONE + np.arange(large.sum())
    return np.asarray(np.unique(groups, return_inverse=True)[1].reshape(-1), np.int64)


def _without(one: RecordBatch, hidden: torch.Tensor, objects: bool) -> RecordBatch:
    """The record of a batch of one, once for each row of ``hidden`` ``[K, N]`` (True: that region is hidden)."""
    copies = len(hidden)
    whole = replace(one.each(lambda t: t.repeat(copies, *[1] * (t.ndim - 1))), keys=one.keys * copies)
    count = hidden.shape[1]
    whole.features[:, :count][hidden] = 0
    if objects:
        whole.mask[:, :count] &= ~hidden
    return whole


def _scores(logits: torch.Tensor, kind: str) -> torch.Tensor:
    return logits.softmax(dim=1) if kind == "softmax" else logits.sigmoid() if kind == "sigmoid" else logits
