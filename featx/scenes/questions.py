"""Which questions are asked about a scene: three of each family, so chosen that the words alone do not tell the answer.

The wanted answer is drawn before the question that has it is sought, and wrong descriptions are made of what the
scene does hold: "Is there a red car?" is asked where there is a red boat and a blue car.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from featx.scenes.grammar import Language
from featx.scenes.meaning import FAMILIES, FIELDS, Meaning, Phrase, answer, describe
from featx.scenes.world import COLOURS, KINDS, PATTERNS, SIZES, Scene, Thing, stream

PER_FAMILY = 3
_PLANS, _TRIES = 20, 25  # plans for one question, and proposals for each, before the picture does without it
_VALUES = {"kind": KINDS, "colour": COLOURS, "pattern": PATTERNS, "size": SIZES}
_WORDINGS = 1 << 16  # a wording is this number modulo the wordings that a language has
_SPOILED_FROM_SCENE = 0.8  # share of wrong words that fit another thing in the scene

ANY = ""  # no answer is wanted more than another: kinds and colours are equally common by themselves
Plan: TypeAlias = tuple[str, str]  # what is asked about, and the answer that is wanted
Propose: TypeAlias = Callable[[str, str, Scene, np.random.Generator], Meaning | None]


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a scene. number: 0, 1, ... within the picture; wording: which of a language's ways to ask."""

    number: int
    family: str
    meaning: Meaning
    wording: int
    answer: str

    def text(self, language: Language) -> str:
        """The question in words."""
        return language.question(self.meaning.form, self.meaning.phrases, self.wording)


def ask(scene: Scene) -> list[Question]:
    """The questions of a scene; a pure function of it."""
    rng = stream(scene.seed, scene.split, scene.index, "questions")
    questions: list[Question] = []
    seen: set[Meaning] = set()
    for family in FAMILIES:
        for _ in range(PER_FAMILY):
            found = _find(family, scene, seen, rng)
            if found is not None:
                seen.add(found[0])
                wording = int(rng.integers(_WORDINGS))
                questions.append(Question(len(questions), family, found[0], wording, found[1]))
    return questions


def _find(family: str, scene: Scene, seen: set[Meaning], rng: np.random.Generator) -> tuple[Meaning, str] | None:
    """A new question of the family with its answer; None when plan after plan does not suit the scene."""
    plans, propose = _FAMILY[family]
    shares = np.array(list(plans.values()))
    for choice in rng.choice(len(shares), _PLANS, p=shares / shares.sum()):
        what, wanted = list(plans)[choice]
        for _ in range(_TRIES):
            meaning = propose(what, wanted, scene, rng)
            truth = answer(meaning, scene) if meaning and meaning not in seen else None
            if meaning and truth and wanted in (truth, ANY):
                return meaning, truth
    return None


def _existence(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning:
    phrase = describe(_any(scene, rng), tuple(what.split()))
    return Meaning("exists", (phrase if wanted == "yes" else _spoiled(phrase, scene, rng),))


def _spoiled(phrase: Phrase, scene: Scene, rng: np.random.Generator) -> Phrase:
    """One word of the description exchanged, mostly for that of another thing in the scene."""
    field = str(rng.choice([f for f in FIELDS if getattr(phrase, f)]))
    nearby = sum(bool(getattr(phrase, f)) for f in FIELDS) > 1 and rng.random() < _SPOILED_FROM_SCENE
    other = getattr(_any(scene, rng), field) if nearby else str(rng.choice(_VALUES[field]))
    return replace(phrase, **{field: other})


def _counting(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning:
    phrase = describe(_any(scene, rng), tuple(what.split()))
    return Meaning("count", (_spoiled(phrase, scene, rng) if wanted == "0" else phrase,))


def _attribute(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning | None:
    having = [thing for thing in scene.things if wanted in (getattr(thing, what), ANY)]
    phrase = _name(having[rng.integers(len(having))], scene, {what}) if having else None
    return Meaning(what, (phrase,)) if phrase else None


def _object(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning:
    """A thing that is known by one or two of its attributes."""
    fields = rng.permutation(["colour", "pattern", "size"])[: rng.integers(1, 3)]
    return Meaning(what, (describe(_any(scene, rng), tuple(map(str, fields))),))


def _spatial(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning | None:
    """One thing in a half of the picture, or two things, by their kinds alone where there are enough such."""
    count = 1 if what.startswith(("in_", "half_")) else 2
    plain = [thing for thing in scene.things if _is_alone(Phrase(thing.kind), scene)]
    things = plain if len(plain) >= count else scene.things
    chosen = [things[k] for k in rng.choice(len(things), count, replace=False)]
    phrases = tuple(phrase for thing in chosen if (phrase := _name(thing, scene, set())))
    return Meaning(what, phrases) if len(phrases) == count else None


def _comparison(what: str, wanted: str, scene: Scene, rng: np.random.Generator) -> Meaning | None:
    """Of two kinds: their numbers, or the colour or size of the only ones of their kind."""
    a, b = describe(_any(scene, rng), ("kind",)), describe(_any(scene, rng), ("kind",))
    if what == "more" and rng.random() < 0.15:  # perhaps none of them
        a, b = [(a, _spoiled(b, scene, rng)), (_spoiled(a, scene, rng), b)][rng.integers(2)]
    return Meaning(what, (a, b)) if a != b else None


def _any(scene: Scene, rng: np.random.Generator) -> Thing:
    return scene.things[rng.integers(len(scene.things))]


def _is_alone(phrase: Phrase, scene: Scene) -> bool:
    return sum(phrase.fits(thing) for thing in scene.things) == 1


def _name(thing: Thing, scene: Scene, without: set[str]) -> Phrase | None:
    """The shortest description that fits nothing else in the scene: the kind, if need be with one adjective.

    without: fields that it must not use. None when one adjective is not enough.
    """
    for fields in (("kind",), ("kind", "colour"), ("kind", "pattern"), ("kind", "size")):
        phrase = describe(thing, fields)
        if not without & set(fields) and _is_alone(phrase, scene):
            return phrase
    return None


def _each(whats: dict[str, float], wanted: tuple[str, ...]) -> dict[Plan, float]:
    """Every wanted answer as often as every other."""
    return {(what, answer): share / len(wanted) for what, share in whats.items() for answer in wanted}


# Rarer counts are wanted more often, by just so much that the counts which are found come out even.
_COUNTS = {"kind": (38, 46, 100, 190, 280), "colour": (31, 36, 64, 115, 170)}
_FAMILY: dict[str, tuple[dict[Plan, float], Propose]] = {
    "existence": (_each({"kind colour": 0.6, "kind": 0.2, "kind pattern": 0.2}, ("yes", "no")), _existence),
    "counting": ({(what, str(n)): w for what, weights in _COUNTS.items() for n, w in enumerate(weights)}, _counting),
    "attribute": (
        _each({"colour": 0.5}, (ANY,)) | _each({"pattern": 0.25}, PATTERNS) | _each({"size": 0.25}, SIZES), _attribute
    ),
    "object": (_each({"kind": 1.0}, (ANY,)), _object),
    "spatial": (
        _each(dict.fromkeys(("is_left", "is_right", "is_above", "is_below"), 1 / 12), ("yes", "no"))
        | _each({"side": 1 / 6}, ("left", "right")) | _each({"height": 1 / 6}, ("above", "below"))
        | _each(dict.fromkeys(("in_left", "in_right", "in_upper", "in_lower"), 1 / 24), ("yes", "no"))
        | _each({"half_across": 1 / 12}, ("left", "right")) | _each({"half_down": 1 / 12}, ("upper", "lower")),
        _spatial,
    ),
    "comparison": (
        _each({"more": 0.20}, ("yes", "no")) | _each({"larger": 0.40}, (ANY,))
        | {("same_colour", "yes"): 0.26, ("same_colour", "no"): 0.14},  # the first is harder to find
        _comparison,
    ),
}  # fmt: skip
