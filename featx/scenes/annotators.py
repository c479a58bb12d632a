"""Ten people answer every question: most are right, some are not, and a few spell in their own way.

At least seven give the right answer, so that it always scores 1 in the official measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np

from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES

PEOPLE = 10
_RIGHT = {10: 0.62, 9: 0.22, 8: 0.11, 7: 0.05}  # how many of the ten, and how often
_OWN_SPELLING = 0.06  # share of right answers that need the official normalisation
_MOST_OWN = 2  # of the ten, so that the usual spelling stays the most frequent one
_NUMBERS = ("none", "one", "two", "three", "four")

# What somebody says who looked too briefly, or has another word.
_NEAR: dict[str, tuple[str, ...]] = {
    "yes": ("no", "no", "maybe", "i think so"), "no": ("yes", "yes", "maybe", "not sure"),
    "left": ("right", "beside it", "top"), "right": ("left", "beside it", "bottom"),
    "above": ("below", "over it", "left"), "below": ("above", "under it", "right"),
    "upper": ("lower", "top", "left"), "lower": ("upper", "bottom", "right"),
    "red": ("dark red", "orange", "pink"), "orange": ("red", "yellow", "brown"),
    "yellow": ("gold", "orange", "white"), "green": ("dark green", "blue", "teal"),
    "blue": ("dark blue", "purple", "navy"), "purple": ("violet", "blue", "pink"),
    "black": ("gray", "dark", "dark gray"), "white": ("gray", "cream", "silver"),
    "plain": ("solid", "no pattern", "dotted"), "striped": ("stripes", "lines", "dotted"),
    "dotted": ("dots", "spotted", "polka dots"),
    "small": ("tiny", "little", "large"), "large": ("big", "medium", "small"),
    "apple": ("fruit", "tomato"), "balloon": ("ball", "kite"), "boat": ("ship", "sailboat"),
    "book": ("notebook", "box"), "butterfly": ("moth", "flower"), "car": ("taxi", "vehicle"),
    "cat": ("kitten", "fox"), "cup": ("mug", "coffee"), "duck": ("bird", "rubber duck"),
    "fish": ("goldfish", "animal"), "flower": ("daisy", "plant"), "hat": ("cap", "fedora"),
    "house": ("home", "hut"), "star": ("starfish", "sea star"), "tree": ("bush", "plant"),
    "umbrella": ("parasol", "lamp"),
}  # fmt: skip
_SURE = ("yes", "maybe", "no")


class Answer(TypedDict):
    """What one annotator said, in the layout of VQA annotations."""

    answer: str
    answer_confidence: str
    answer_id: int


def answers(truth: str, rng: np.random.Generator) -> list[Answer]:
    """Ten answers in the layout of VQA annotations: answer, answer_confidence, answer_id from 1."""
    right = int(rng.choice(list(_RIGHT), p=list(_RIGHT.values())))
    said = [(text, _sure(rng, 0.8, 0.16)) for text in _right_answers(truth, right, rng)]
    said += [(str(rng.choice(near(truth))), _sure(rng, 0.1, 0.6)) for _ in range(PEOPLE - right)]
    shuffled = [said[k] for k in rng.permutation(PEOPLE)]
    return [
        {"answer": text, "answer_confidence": sure, "answer_id": number}
        for number, (text, sure) in enumerate(shuffled, 1)
    ]


def near(truth: str) -> tuple[str, ...]:
    """Wrong answers that a person could give."""
    if truth.isdigit():
        return tuple(str(n) for n in (int(truth) - 1, int(truth) + 1) if n >= 0)
    return _NEAR[truth]


def answer_type(truth: str) -> str:
    """``yes/no``, ``number`` or ``other``."""
    return "yes/no" if truth in ("yes", "no") else "number" if truth.isdigit() else "other"


def _sure(rng: np.random.Generator, yes: float, maybe: float) -> str:
    return str(rng.choice(_SURE, p=(yes, maybe, 1 - yes - maybe)))


def _right_answers(truth: str, count: int, rng: np.random.Generator) -> Iterator[str]:
    """The truth, now and then as only the normalisation recognises it."""
    own = min(_MOST_OWN, int(rng.binomial(count, _OWN_SPELLING)))
    for number in range(count):
        yield str(rng.choice(spellings(truth))) if number < own else truth


def spellings(truth: str) -> tuple[str, ...]:
    """Other ways to write an answer that the official normalisation maps to it."""
    if truth.isdigit():
        return (_NUMBERS[int(truth)], f"{truth}.") if int(truth) < len(_NUMBERS) else (f"{truth}.",)
    if truth in KINDS:
        return (f"{'an' if truth[0] in 'aeiou' else 'a'} {truth}", f"the {truth}", truth.capitalize())
    return (
        (truth.capitalize(), f"{truth}.") if truth in COLOURS + PATTERNS + SIZES else (truth.capitalize(), f"{truth}!")
    )
