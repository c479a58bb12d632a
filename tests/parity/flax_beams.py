"""The beam search of transformers 4.9's Flax models, again in numpy, slip and all: only to read what it has written.

A candidate that has just ended gets -1e7 before its score is taken, so the score of an ended caption is about
-1e7 / length, float32 has no digits left for its probability, and longer captions win. What featx searches with is
:func:`featx.clip_mbart.generate.write`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ids = np.ndarray[Any, np.dtype[np.int64]]
LOW = np.float32(-1e7)


@dataclass(frozen=True)
class Rules:
    """Of one search; ``code`` is the forced first token, None for none."""

    code: int | None
    length: int
    beams: int = 4
    penalty: float = 1.0
    early_stopping: bool = True
    pad: int = 1
    eos: int = 2
    start: int = 2


@dataclass
class Beams:
    """Live beams and ended ones, from the worst to the best: ids ``[B, K, L]``, scores ``[B, K]``."""

    live: Ids
    live_scores: Floats
    ended: Ids
    ended_scores: Floats
    finished: np.ndarray[Any, np.dtype[np.bool_]]
    at: int = 1

    @classmethod
    def begin(cls, pictures: int, rules: Rules) -> Beams:
        ids = np.full((pictures, rules.beams, rules.length), rules.pad, np.int64)
        live = ids.copy()
        live[:, :, 0] = rules.start
        scores = np.full((pictures, rules.beams), LOW)
        first = scores.copy()
        first[:, 0] = 0
        return cls(live, first, ids, scores, np.zeros((pictures, rules.beams), bool))


def search(log_probs: Callable[[Ids], Floats], pictures: int, rules: Rules) -> tuple[Ids, Floats]:
    """The best ids ``[B, L]`` and their scores; ``log_probs`` of the next token of ids ``[B, K, l]``: ``[B, K, V]``."""
    state = Beams.begin(pictures, rules)
    while going(state, rules):
        step(state, forced(log_probs(state.live[:, :, : state.at]), state.at, rules), rules)
    any_ended = state.finished.any(axis=1)
    ids = np.where(any_ended[:, None, None], state.ended, state.live)
    return ids[:, -1], np.where(any_ended[:, None], state.ended_scores, state.live_scores)[:, -1]


def going(state: Beams, rules: Rules) -> bool:
    """Whether there is room, a beam that has not ended, and (over the whole batch) hope for a better one."""
    best = state.live_scores[:, -1:] / np.float32(rules.length**rules.penalty)
    worst = np.where(state.finished, state.ended_scores.min(axis=1, keepdims=True), LOW)
    open_beam = not (state.finished.all() and rules.early_stopping)
    return state.at == 1 or (state.at < rules.length and open_beam and bool((worst < best).all()))


def forced(found: Floats, at: int, rules: Rules) -> Floats:
    """Nothing but the language at the first place, nothing but the end at the last."""
    only = rules.code if at == 1 else rules.eos if at == rules.length - 1 else None
    if only is None:
        return found
    one = np.full_like(found, -np.inf)
    one[:, :, only] = 0
    return one


def step(state: Beams, found: Floats, rules: Rules) -> None:
    """Put one more token behind every live beam."""
    scores = (found + state.live_scores[:, :, None]).reshape(len(found), -1)
    best = top(scores, 2 * rules.beams)
    ids = np.take_along_axis(state.live, (best // found.shape[2])[:, :, None], axis=1)
    ids[:, :, state.at] = best % found.shape[2]
    just = ids[:, :, state.at] == rules.eos
    scores = np.take_along_axis(scores, best, axis=1) + just * LOW
    chosen = top(scores, rules.beams)[:, ::-1]
    state.live = np.take_along_axis(ids, chosen[:, :, None], axis=1)
    state.live_scores = np.take_along_axis(scores, chosen, axis=1)
    full = state.finished.all(axis=1, keepdims=True) & rules.early_stopping
    scores = scores / np.float32(state.at**rules.penalty) + (~just | full) * LOW
    merged = np.concatenate([state.ended_scores, scores], axis=1)
    kept = top(merged, rules.beams)[:, ::-1]
    state.ended = np.take_along_axis(np.concatenate([state.ended, ids], axis=1), kept[:, :, None], axis=1)
    state.ended_scores = np.take_along_axis(merged, kept, axis=1)
    state.finished = np.take_along_axis(np.concatenate([state.finished, just], axis=1), kept, axis=1)
    state.at += 1


def top(scores: Floats, count: int) -> Ids:
    """Places of the largest ``count``, of equal ones the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
