"""What is said about a scene without being asked: two sentences, of two and of three of its things.

Things of one caption can be told apart: none of its descriptions fits another of its things. A scene that has too few
such things gets a caption of fewer. Pictures to test on have more of them, in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from featx.scenes.grammar import Language
from featx.scenes.meaning import FIELDS, Phrase, describe, relation
from featx.scenes.world import Scene, Thing, stream

_WORDINGS = 1 << 16  # as for questions
REFERENCES = 20  # COCO has 5, and 40 of some pictures


@dataclass(frozen=True, slots=True)
class Caption:
    """form: ``left2``, ``above3``, ...: where the first of two or three things is, seen from the second; or ``one``."""

    form: str
    phrases: tuple[Phrase, ...]
    wording: int

    def text(self, language: Language) -> str:
        """The caption in words."""
        return language.caption(self.form, self.phrases, self.wording)


def caption(scene: Scene) -> tuple[Caption, ...]:
    """The captions of a scene; a pure function of it."""
    rng = stream(scene.seed, scene.split, scene.index, "captions")
    return tuple(_caption(scene, most, rng) for most in (2, 3))


def references(scene: Scene) -> tuple[Caption, ...]:
    """Further captions, to compare written ones with: a pure function of the scene.

    Two are far too few for that: which things a caption is about, in which order and in which words, is chosen by lot,
    so that somebody who sees all and draws captions as we do reaches a BLEU-4 of .2 to .4 with them. With these it is
    .7 to .9, and for who looks at another picture .2 to .4.
    """
    rng = stream(scene.seed, scene.split, scene.index, "references")
    return tuple(_caption(scene, 2 + number % 2, rng) for number in range(REFERENCES))


def _caption(scene: Scene, most: int, rng: np.random.Generator) -> Caption:
    form, chosen = _chosen(scene, most, rng)
    phrases = tuple(_phrase(thing, chosen, rng) for thing in chosen)
    return Caption(form, phrases, int(rng.integers(_WORDINGS)))


def _chosen(scene: Scene, most: int, rng: np.random.Generator) -> tuple[str, Sequence[Thing]]:
    """Things that can be told apart, at most ``most``, of which the first is on a clear side of the second."""
    for count in range(most, 1, -1):
        orders = list(permutations(scene.things, count))
        for k in rng.permutation(len(orders)):
            a, b, *_ = things = orders[k]
            across = bool(rng.integers(2))
            where = relation(a, b, scene, across=across) or relation(a, b, scene, across=not across)
            if where and len({describe(thing, FIELDS) for thing in things}) == count:
                return f"{where}{count}", things
    return "one", [scene.things[rng.integers(len(scene.things))]]


def _phrase(thing: Thing, chosen: Sequence[Thing], rng: np.random.Generator) -> Phrase:
    """Kind and colour, sometimes pattern or size, and more where that fits another of the chosen things, too."""
    extra = [field for field in ("pattern", "size") if rng.random() < 0.3]
    named = ("kind", "colour")
    phrases = (describe(thing, fields) for fields in ((*named, *extra), (*named, "pattern"), (*named, "size"), FIELDS))
    return next(phrase for phrase in phrases if sum(map(phrase.fits, chosen)) == 1)
