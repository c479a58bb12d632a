"""What is said about a scene without being asked: two sentences, of two and of three of its things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.scenes.grammar import Language
from featx.scenes.meaning import Phrase, describe, relation
from featx.scenes.world import Scene, Thing, stream

_WORDINGS = 1 << 16  # as for questions
_TRIES = 20  # pairs looked at before a caption only lists things


@dataclass(frozen=True, slots=True)
class Caption:
    """form: ``left2``, ``above3``, ...: the first phrase as seen from the second, of two or three; or ``list2``."""

    form: str
    phrases: tuple[Phrase, ...]
    wording: int

    def text(self, language: Language) -> str:
        """The caption in words."""
        return language.caption(self.form, self.phrases, self.wording)


def caption(scene: Scene) -> tuple[Caption, ...]:
    """The captions of a scene; a pure function of it."""
    rng = stream(scene.seed, scene.split, scene.index, "captions")
    return tuple(_caption(scene, count, rng) for count in (2, 3))


def _caption(scene: Scene, count: int, rng: np.random.Generator) -> Caption:
    form, chosen = f"list{count}", list(scene.things[:count])
    for _ in range(_TRIES):
        things = [scene.things[k] for k in rng.choice(len(scene.things), count, replace=False)]
        where = relation(things[0], things[1], scene, across=bool(rng.integers(2)))
        if where:
            form, chosen = f"{where}{count}", things
            break
    phrases = tuple(_phrase(thing, rng) for thing in chosen)
    return Caption(form, phrases, int(rng.integers(_WORDINGS)))


def _phrase(thing: Thing, rng: np.random.Generator) -> Phrase:
    """Kind and colour, sometimes pattern or size."""
    extra = [field for field in ("pattern", "size") if rng.random() < 0.3]
    return describe(thing, ("kind", "colour", *extra))
