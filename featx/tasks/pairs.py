"""Which sentence goes with which picture in pre-training, and which of a question's answers it is to be given."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from featx.data import AnswerSpace, Question
from featx.lxmert.losses import IGNORED

_TRIES = 100  # to meet another picture; a corpus of one picture has none


def swapped(
    examples: Sequence[Question], pool: Sequence[Question], share: float, rngs: Sequence[np.random.Generator]
) -> tuple[list[str], list[bool]]:
    """A sentence for each example, a ``share`` of them of another picture in ``pool``; and whether it is its own."""
    texts, matched = [], []
    for example, rng in zip(examples, rngs, strict=True):
        other = _other(pool, example.picture, rng) if rng.random() < share else None
        texts.append(example.text if other is None else other.text)
        matched.append(other is None)
    return texts, matched


def _other(pool: Sequence[Question], picture: str, rng: np.random.Generator) -> Question | None:
    for _ in range(_TRIES):
        found = pool[int(rng.integers(len(pool)))]
        if found.picture != picture:
            return found
    return None


def drawn_answers(
    examples: Sequence[Question], matched: Sequence[bool], answers: AnswerSpace, rngs: Sequence[np.random.Generator]
) -> list[int]:
    """For each example a class, drawn by the soft scores of its answers; -100 where there are none in the list, and
    where the sentence is not its own.
    """
    asked = zip(examples, matched, rngs, strict=True)
    return [_drawn(q, answers, rng) if own else IGNORED for q, own, rng in asked]


def _drawn(question: Question, answers: AnswerSpace, rng: np.random.Generator) -> int:
    scores = {i: score for a, score in (question.scores or {}).items() if (i := answers.index(a)) is not None and score}
    if not scores:
        return IGNORED
    weights = np.fromiter(scores.values(), np.float64)
    return list(scores)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def fixed(examples: Sequence[Question]) -> list[np.random.Generator]:
    """A generator for each example that depends on it alone: evaluation draws the same every time."""
    return [np.random.default_rng(zlib.crc32(f"{q.id} {q.text}".encode())) for q in examples]
