"""Pictures as somebody takes them who cannot see: of few things, often too dark or blurred, with one question each.

What is shown is some of a scene's things before its background. Whether a question can be answered says nothing of the
question itself: every form of question, and every kind that is asked about, is unanswerable equally often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import cv2
import numpy as np

from featx.scenes.annotators import PEOPLE, answer_type, answers
from featx.scenes.camera import photograph
from featx.scenes.grammar import Language
from featx.scenes.meaning import Meaning, Phrase, answer, describe
from featx.scenes.world import COLOURS, KINDS, Scene, Split, Thing, stream

Flaw: TypeAlias = Literal["", "dark", "blurred"]
UNANSWERABLE = "unanswerable"
HELPLESS = 0.3  # share of questions that nobody can answer
_WORDINGS = 1 << 16
# What is asked, and how often. ``colour of`` and ``pattern of`` name a kind, which need not be in the picture.
_FORMS = {
    "kind": 0.28, "colour": 0.22, "pattern": 0.08, "colour of": 0.12, "pattern of": 0.05, "exists": 0.15, "count": 0.10,
}  # fmt: skip
_COUNTS = (0.15, 0.25, 0.25, 0.2, 0.15)  # 0, 1, ... 4 things of a kind, where the scene has as many


@dataclass(frozen=True, slots=True)
class Said:
    """What one annotator said, in the layout of VizWiz."""

    answer: str
    sure: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One picture and the question about it. scene: what it shows; answer: the truth, or ``unanswerable``."""

    scene: Scene
    flaw: Flaw
    meaning: Meaning
    wording: int
    answer: str
    said: tuple[Said, ...]

    @property
    def name(self) -> str:
        """Of the file; its stem is the key in a store."""
        return file_name(self.scene.split, self.scene.id)

    @property
    def answer_type(self) -> str:
        """``unanswerable``, ``yes/no``, ``number`` or ``other``."""
        return UNANSWERABLE if self.answer == UNANSWERABLE else answer_type(self.answer)

    def text(self, language: Language) -> str:
        """The question in words."""
        return language.question(self.meaning.form, self.meaning.phrases, self.wording)


def file_name(split: Split, number: int) -> str:
    """Of the snapshot of a scene with this id, as VizWiz calls its pictures."""
    return f"VizWiz_{split}_{number:08d}.jpg"


def take(scene: Scene) -> Snapshot:
    """The snapshot of a scene; a pure function of it."""
    rng = stream(scene.seed, scene.split, scene.index, "snapshot")
    what = str(rng.choice(list(_FORMS), p=list(_FORMS.values())))
    helpless = bool(rng.random() < HELPLESS)
    absent = helpless and what.endswith(" of") and bool(rng.random() < 0.5)
    things, meaning = _asked(what, scene, absent, rng)
    shown = replace(scene, things=tuple(thing for thing in scene.things if any(thing is one for one in things)))
    flaw: Flaw = "" if absent or not helpless else ("dark", "blurred")[rng.integers(2)]
    truth = None if flaw else answer(meaning, shown)
    wording = int(rng.integers(_WORDINGS))
    said = _helpless(rng) if truth is None else _telling(truth, rng)
    return Snapshot(shown, flaw, meaning, wording, truth or UNANSWERABLE, said)


def expose(shot: Snapshot) -> bytes:
    """The JPEG of a snapshot; the same bytes every time."""
    data = photograph(shot.scene)
    if not shot.flaw:
        return data
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None, "it has just been encoded"
    rng = np.random.default_rng(shot.wording)
    if shot.flaw == "blurred":
        width = 0.16 * max(pixels.shape[:2]) * rng.uniform(0.8, 1.2)
        spoiled = cv2.GaussianBlur(pixels, (0, 0), width).astype(np.float32)
    else:
        spoiled = pixels.astype(np.float32) * rng.uniform(0.01, 0.06)
    noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(1.0, 5.0))
    grey = np.clip(np.round(spoiled + noise), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))])[1])


def _asked(what: str, scene: Scene, absent: bool, rng: np.random.Generator) -> tuple[list[Thing], Meaning]:
    """The things that are shown, and the question."""
    thing, *others = (scene.things[k] for k in rng.permutation(len(scene.things)))
    if what == "exists":
        shown = [thing, others[0]]
        return shown, Meaning("exists", (_perhaps(shown, rng),))
    if what == "count":
        return _counted(thing, others, rng)
    form, _, named = what.partition(" ")
    if not named:
        return [thing], Meaning(form, (Phrase(),))
    kind = _absent([thing], rng) if absent else thing.kind
    return [thing], Meaning(form, (Phrase(kind),))


def _perhaps(shown: list[Thing], rng: np.random.Generator) -> Phrase:
    """A description of the first thing, which is spoiled every second time so that it fits none."""
    phrase = describe(shown[0], ("kind",) if rng.random() < 0.6 else ("kind", "colour"))
    if rng.random() < 0.5:
        return phrase
    if phrase.colour and rng.random() < 0.5:
        free = [c for c in COLOURS if not any(t.kind == phrase.kind and t.colour == c for t in shown)]
        return replace(phrase, colour=str(rng.choice(free)))
    return replace(phrase, kind=_absent(shown, rng))


def _counted(thing: Thing, others: list[Thing], rng: np.random.Generator) -> tuple[list[Thing], Meaning]:
    """Some things of the kind that the scene has most of, and one of another; or none, and one."""
    everything = [thing, *others]
    kind = max((t.kind for t in everything), key=lambda k: sum(t.kind == k for t in everything))
    alike, apart = ([t for t in everything if (t.kind == kind) is same] for same in (True, False))
    wanted = int(rng.choice(len(_COUNTS), p=_COUNTS))
    shown = [*alike[:wanted], *apart[:1]] or alike[:1]
    asked = kind if wanted or apart else _absent(shown, rng)
    return shown, Meaning("count", (Phrase(asked),))


def _absent(shown: list[Thing], rng: np.random.Generator) -> str:
    """A kind that is none of these."""
    return str(rng.choice([kind for kind in KINDS if all(kind != thing.kind for thing in shown)]))


def _telling(truth: str, rng: np.random.Generator) -> tuple[Said, ...]:
    return tuple(Said(one["answer"], one["answer_confidence"]) for one in answers(truth, rng))


def _helpless(rng: np.random.Generator) -> tuple[Said, ...]:
    """Ten people who cannot tell, of whom some blame the picture."""
    right = int(rng.integers(7, PEOPLE + 1))
    words = [UNANSWERABLE] * right + ["unsuitable"] * (PEOPLE - right)
    return tuple(Said(words[k], str(rng.choice(("yes", "maybe"), p=(0.85, 0.15)))) for k in rng.permutation(PEOPLE))
