"""What a data set says about a picture: a question with its answers, or a caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one picture.

    id: as the data set writes it; a prediction file repeats it. picture: the key in the store. scores: answer -> soft
    score in (0, 1], None when nobody has answered. answers: what the annotators said, as written, in their order.
    answer: the one answer the data set settled on, as written; empty when it names none. answer_ids: the annotators'
    numbers where these are not all different, which they are in every published file. answerable: VizWiz only.
    metric: how its data set is scored, a name in ``featx.metrics.METRICS``. confidences: VizWiz only: how sure each
    annotator was, ``yes``, ``maybe`` or ``no``; empty where that is not said of all.
    """

    id: int | str
    picture: str
    text: str
    scores: Mapping[str, float] | None
    answers: tuple[str, ...] = ()
    answer_type: str = ""
    question_type: str = ""
    language: str = "en"
    answer: str = ""
    answer_ids: tuple[int, ...] = ()
    answerable: bool | None = None
    metric: str = "soft"
    confidences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caption:
    """One sentence about one picture; ``picture`` is the key in the store."""

    id: int | str
    picture: str
    text: str
    language: str = "en"
