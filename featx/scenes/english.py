"""English. Forms of a noun: ``a`` car, ``the`` car, ``one``: car, ``many``: cars."""

from __future__ import annotations

from featx.scenes.grammar import Language, captions
from featx.scenes.meaning import Phrase

_PLURALS = {"butterfly": "butterflies", "fish": "fish"}


class Noun:
    """A description in English; adjectives stand before the noun: size, pattern, colour."""

    def __init__(self, phrase: Phrase) -> None:
        noun = phrase.kind or "thing"
        adjectives = [a for a in (phrase.size, phrase.pattern, phrase.colour) if a]
        self.one = " ".join([*adjectives, noun])
        self.many = " ".join([*adjectives, _PLURALS.get(noun, f"{noun}s")])
        self.a = f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.one}"
        self.the = f"the {self.one}"


QUESTIONS = {
    "exists": (
        "is there {0.a}?", "is there {0.a} in the picture?", "can you see {0.a}?",
    ),
    "count": (
        "how many {0.many} are there?", "how many {0.many} are in the picture?", "how many {0.many} can you see?",
    ),
    "colour": ("what colour is {0.the}?", "what is the colour of {0.the}?", "which colour does {0.the} have?"),
    "pattern": (
        "what pattern does {0.the} have?", "is {0.the} plain, striped or dotted?", "what is the pattern of {0.the}?",
    ),
    "size": ("is {0.the} small or large?", "what size is {0.the}?", "is {0.the} large or small?"),
    "kind": ("what is {0.the}?", "what kind of thing is {0.the}?", "what do you call {0.the}?"),
    "is_left": ("is {0.the} left of {1.the}?", "is {0.the} to the left of {1.the}?"),
    "is_right": ("is {0.the} right of {1.the}?", "is {0.the} to the right of {1.the}?"),
    "is_above": ("is {0.the} above {1.the}?", "is {0.the} higher up than {1.the}?"),
    "is_below": ("is {0.the} below {1.the}?", "is {0.the} lower down than {1.the}?"),
    "side": (
        "on which side of {1.the} is {0.the}, left or right?", "is {0.the} left or right of {1.the}?",
        "is {0.the} to the left or to the right of {1.the}?",
    ),
    "height": ("is {0.the} above or below {1.the}?", "where is {0.the}, above or below {1.the}?"),
    "in_left": ("is {0.the} in the left half of the picture?", "is {0.the} on the left side of the picture?"),
    "in_right": ("is {0.the} in the right half of the picture?", "is {0.the} on the right side of the picture?"),
    "in_upper": ("is {0.the} in the upper half of the picture?", "is {0.the} in the upper part of the picture?"),
    "in_lower": ("is {0.the} in the lower half of the picture?", "is {0.the} in the lower part of the picture?"),
    "half_across": (
        "in which half of the picture is {0.the}, left or right?",
        "is {0.the} in the left or right half of the picture?",
    ),
    "half_down": (
        "in which half of the picture is {0.the}, upper or lower?",
        "is {0.the} in the upper or lower half of the picture?",
    ),
    "more": ("are there more {0.many} than {1.many}?", "can you see more {0.many} than {1.many}?"),
    "same_colour": (
        "are {0.the} and {1.the} the same colour?", "do {0.the} and {1.the} have the same colour?",
        "is {0.the} the same colour as {1.the}?",
    ),
    "larger": ("which is larger, {0.the} or {1.the}?", "what is larger, {0.the} or {1.the}?"),
}  # fmt: skip

CAPTIONS = captions(
    {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
    one=("the picture shows {0.a}.", "there is {0.a} in the picture."),
    two=("{0.a} is WHERE {1.a}.", "there is {0.a} WHERE {1.a}.", "the picture shows {0.a} WHERE {1.a}."),
    three=(
        "{0.a} is WHERE {1.a}, and there is also {2.a}.", "the picture shows {2.a}, and {0.a} WHERE {1.a}.",
        "there is {2.a}, and {0.a} WHERE {1.a}.",
    ),
)  # fmt: skip

ENGLISH = Language("en", Noun, QUESTIONS, CAPTIONS)
