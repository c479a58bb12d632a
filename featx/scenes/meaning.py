"""What a question means, whatever the language, and what the answer is in a given scene.

A question without one clear answer has none: a description that fits two things, centres too close to be left or right
of each other, sizes of the same class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featx.scenes.world import Scene, Thing

FIELDS = ("kind", "colour", "pattern", "size")
MARGIN = 0.12  # of the picture's side, between centres of which one is left of, or above, the other
HALF_MARGIN = 0.10  # of the picture's side, between its middle and the centre of what is in one half


@dataclass(frozen=True, slots=True)
class Phrase:
    """A description: what it leaves empty fits everything."""

    kind: str = ""
    colour: str = ""
    pattern: str = ""
    size: str = ""

    def fits(self, thing: Thing) -> bool:
        """Whether the thing is one of these."""
        return (
            self.kind in ("", thing.kind)
            and self.colour in ("", thing.colour)
            and self.pattern in ("", thing.pattern)
            and self.size in ("", thing.size)
        )


def describe(thing: Thing, fields: tuple[str, ...]) -> Phrase:
    """What these fields say about a thing."""
    return Phrase(**{field: getattr(thing, field) for field in fields})


@dataclass(frozen=True, slots=True)
class Meaning:
    """A form of question about one or two descriptions; the forms are the keys of ``FAMILY``."""

    form: str
    phrases: tuple[Phrase, ...]


FAMILY = {
    "exists": "existence",
    "count": "counting",
    "colour": "attribute", "pattern": "attribute", "size": "attribute",
    "kind": "object",
    "is_left": "spatial", "is_right": "spatial", "is_above": "spatial", "is_below": "spatial",
    "side": "spatial", "height": "spatial",
    "in_left": "spatial", "in_right": "spatial", "in_upper": "spatial", "in_lower": "spatial",
    "half_across": "spatial", "half_down": "spatial",
    "more": "comparison", "same_colour": "comparison", "larger": "comparison",
}  # fmt: skip
FAMILIES = tuple(dict.fromkeys(FAMILY.values()))


def answer(meaning: Meaning, scene: Scene) -> str | None:
    """The one right answer in English, or None where there is none."""
    if meaning.form in _COUNTED:
        return _COUNTED[meaning.form](*(_count(phrase, scene) for phrase in meaning.phrases))
    things = [_referent(phrase, scene) for phrase in meaning.phrases]
    known = [thing for thing in things if thing is not None]
    if len(known) < len(things) or len({id(thing) for thing in known}) < len(things):
        return None
    if meaning.form in FIELDS:
        return str(getattr(known[0], meaning.form))
    if meaning.form.startswith(("in_", "half_")):
        return _half(meaning.form, known[0], scene)
    if FAMILY[meaning.form] == "spatial":
        return _placed(meaning.form, known[0], known[1], scene)
    if meaning.form == "larger":
        return _larger(known[0], known[1])
    return _yes_no(known[0].colour == known[1].colour)


def _yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


_COUNTED: dict[str, Callable[..., str | None]] = {
    "exists": lambda n: _yes_no(n > 0),
    "count": str,
    "more": lambda n, m: _yes_no(n > m) if n != m else None,
}


def _count(phrase: Phrase, scene: Scene) -> int:
    return sum(phrase.fits(thing) for thing in scene.things)


def _referent(phrase: Phrase, scene: Scene) -> Thing | None:
    """The only thing that fits, or None."""
    fitting = [thing for thing in scene.things if phrase.fits(thing)]
    return fitting[0] if len(fitting) == 1 else None


def relation(a: Thing, b: Thing, scene: Scene, *, across: bool) -> str | None:
    """Where ``a`` is as seen from ``b``, by the centres of what is visible of them; None when they are too close.

    across: ``left`` or ``right``, else ``above`` or ``below``.
    """
    axis, side = (0, scene.width) if across else (1, scene.height)
    distance = b.box.centre[axis] - a.box.centre[axis]
    if abs(distance) < MARGIN * side:
        return None
    return ("left" if distance > 0 else "right") if across else ("above" if distance > 0 else "below")


def _placed(form: str, a: Thing, b: Thing, scene: Scene) -> str | None:
    where = relation(a, b, scene, across=form in ("is_left", "is_right", "side"))
    return where if where is None or form in ("side", "height") else _yes_no(form == f"is_{where}")


def _half(form: str, thing: Thing, scene: Scene) -> str | None:
    """In which half of the picture the centre of what is visible lies."""
    across = form in ("in_left", "in_right", "half_across")
    axis, side = (0, scene.width) if across else (1, scene.height)
    distance = side / 2 - thing.box.centre[axis]
    if abs(distance) < HALF_MARGIN * side:
        return None
    where = ("left" if distance > 0 else "right") if across else ("upper" if distance > 0 else "lower")
    return where if form.startswith("half_") else _yes_no(form == f"in_{where}")


def _larger(a: Thing, b: Thing) -> str | None:
    """The kind of the larger one, when both can be told by it."""
    if a.size == b.size or a.kind == b.kind:
        return None
    return a.kind if a.size == "large" else b.kind
