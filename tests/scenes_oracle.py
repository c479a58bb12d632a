"""Answers the English questions of drawn scenes, and checks captions, from their words and the boxes alone.

Written apart from the code under test: it knows the sentences by heart and nothing of how they were made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from featx.scenes.world import Scene

KINDS = (
    "apple", "balloon", "boat", "book", "butterfly", "car", "cat", "cup",
    "duck", "fish", "flower", "hat", "house", "star", "tree", "umbrella",
)  # fmt: skip
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "black", "white"]
PATTERNS = ["plain", "striped", "dotted"]
SIZES = ["small", "large"]
PLURALS = {**{f"{kind}s": kind for kind in KINDS}, "butterflies": "butterfly", "fish": "fish", "things": ""}

Thing = dict[str, Any]
THE, A, MANY = r"the ([a-z ]+?)", r"an? ([a-z ]+?)", r"([a-z ]+?)"
SENTENCES = {
    "exists": (rf"(?:Is there|Can you see) {A}(?: in the picture)?\?",),
    "count": (
        rf"How many {MANY} (?:are there|are in the picture|can you see)\?",
    ),
    "colour": (rf"What colour is {THE}\?", rf"What is the colour of {THE}\?", rf"Which colour does {THE} have\?"),
    "pattern": (
        rf"What pattern does {THE} have\?", rf"Is {THE} plain, striped or dotted\?", rf"What is the pattern of {THE}\?",
    ),
    "size": (rf"Is {THE} (?:small or large|large or small)\?", rf"What size is {THE}\?"),
    "kind": (rf"What is {THE}\?", rf"What kind of thing is {THE}\?", rf"What do you call {THE}\?"),
    "side": (
        rf"On which side of {THE} is {THE}, left or right\?", rf"Is {THE} left or right of {THE}\?",
        rf"Is {THE} to the left or to the right of {THE}\?",
    ),
    "height": (rf"(?:Is|Where is) {THE},? above or below {THE}\?",),
    "left": (rf"Is {THE} (?:to the )?left of {THE}\?",),
    "right": (rf"Is {THE} (?:to the )?right of {THE}\?",),
    "above": (rf"Is {THE} (?:above|higher up than) {THE}\?",),
    "below": (rf"Is {THE} (?:below|lower down than) {THE}\?",),
    "half": (
        rf"In which half of the picture is {THE}, (left|upper) or (?:right|lower)\?",
        rf"Is {THE} in the (left|upper) or (?:right|lower) half of the picture\?",
    ),
    "in": (rf"Is {THE} (?:in|on) the (left|right|upper|lower) (?:half|side|part) of the picture\?",),
    "more": (rf"(?:Are there|Can you see) more {MANY} than {MANY}\?",),
    "same colour": (
        rf"Are {THE} and {THE} the same colour\?", rf"Do {THE} and {THE} have the same colour\?",
        rf"Is {THE} the same colour as {THE}\?",
    ),
    "larger": (rf"(?:Which|What) is larger, {THE} or {THE}\?",),
}  # fmt: skip
WHERE = r"(?P<where>to the left of|to the right of|above|below)"
FIRST, SECOND, THIRD = (rf"an? (?P<{name}>[a-z ]+?)" for name in ("first", "second", "third"))
CAPTIONS = (
    rf"The picture shows {FIRST}\.", rf"There is {FIRST} in the picture\.",
    rf"{FIRST} is {WHERE} {SECOND}(?:, and there is also {THIRD})?\.",
    rf"(?:There is|The picture shows) (?:{THIRD}, and )?{FIRST} {WHERE} {SECOND}\.",
)  # fmt: skip


def read_things(instances: Mapping[str, Any]) -> dict[int, list[Thing]]:
    """Picture id -> its things: kind, colour, pattern, size, centre as share of the picture."""
    kinds = {c["id"]: c["name"] for c in instances["categories"]}
    names = {c["id"]: c["name"] for c in instances["attCategories"]}
    pictures = {image["id"]: image for image in instances["images"]}
    things: dict[int, list[Thing]] = {number: [] for number in pictures}
    for box in instances["annotations"]:
        colour, pattern, size = (names[k] for k in box["attribute_ids"])
        x, y, w, h = box["bbox"]
        image = pictures[box["image_id"]]
        centre = ((x + w / 2) / image["width"], (y + h / 2) / image["height"])
        things[image["id"]].append(
            {"kind": kinds[box["category_id"]], "colour": colour, "pattern": pattern, "size": size, "centre": centre}
        )
    return things


def things_of(scene: Scene) -> list[Thing]:
    """The same of a scene that is on no disk."""
    return [
        {
            "kind": t.kind, "colour": t.colour, "pattern": t.pattern, "size": t.size,
            "centre": ((t.box.x0 + t.box.x1) / 2 / scene.width, (t.box.y0 + t.box.y1) / 2 / scene.height),
        }
        for t in scene.things
    ]  # fmt: skip


def is_true(caption: str, things: Sequence[Thing]) -> bool:
    """Whether the caption is true of some things, each of which only one of its descriptions fits."""
    readings = [found for pattern in CAPTIONS if (found := re.fullmatch(pattern, caption, re.IGNORECASE))]
    readings = [r for r in readings if all(_is_description(w) for k, w in r.groupdict().items() if w and k != "where")]
    assert len(readings) == 1, f"{caption!r} reads as {readings}"
    said = readings[0].groupdict()
    words = [said[name] for name in ("first", "second", "third") if said.get(name)]
    return any(
        all(len(fitting(w, chosen)) == 1 for w in words) and ("where" not in said or lies(said["where"], *chosen[:2]))
        for chosen in product(*(fitting(w, things) for w in words))
    )


def lies(where: str, a: Thing, b: Thing) -> bool:
    """Whether a is plainly there as seen from b."""
    across = where not in ("above", "below")
    distance = b["centre"][not across] - a["centre"][not across]
    return bool((distance if where in ("to the left of", "above") else -distance) >= 0.1199)


def understand(question: str) -> tuple[str, tuple[str, ...]]:
    """(what is asked, its descriptions); exactly one reading must exist."""
    readings = {
        (form, found.groups())
        for form, patterns in SENTENCES.items()
        for pattern in patterns
        if (found := re.fullmatch(pattern, question)) and all(_is_description(g) for g in found.groups())
    }
    assert len(readings) == 1, f"{question!r} reads as {readings}"
    return readings.pop()


def solve(question: str, things: Sequence[Thing]) -> str:
    """The answer; AssertionError when the question does not have exactly one, or not clearly."""
    form, said = understand(question)
    if form in ("exists", "count", "more"):
        counts = [len(fitting(words, things)) for words in said]
        assert form != "more" or counts[0] != counts[1], f"{question!r} compares equal numbers"
        return str(counts[0]) if form == "count" else yes_no(counts[0] > (counts[1] if form == "more" else 0))
    if form in ("in", "half"):
        where = half(only(said[0], things), across=said[1] in ("left", "right"))
        return where if form == "half" else yes_no(where == said[1])
    found = [only(words, things) for words in said]
    if form in ("colour", "pattern", "size", "kind"):
        return str(found[0][form])
    first, second = found if not question.startswith("On which side of") else found[::-1]
    assert first is not second, f"{question!r} compares a thing with itself"
    if form == "same colour":
        return yes_no(first["colour"] == second["colour"])
    if form == "larger":
        sizes = {thing["size"]: thing["kind"] for thing in found}
        assert len(sizes) == 2, f"{question!r} compares things of one size"
        return str(sizes["large"])
    where = side(first, second, across=form in ("side", "left", "right"))
    return where if form in ("side", "height") else yes_no(where == form)


def side(a: Thing, b: Thing, *, across: bool) -> str:
    """Where a is as seen from b; the difference must be plain to see."""
    distance = a["centre"][not across] - b["centre"][not across]
    assert abs(distance) >= 0.1199, f"{distance:.3f} of the picture is too close to call"
    return (("left", "right") if across else ("above", "below"))[distance > 0]


def half(a: Thing, *, across: bool) -> str:
    """In which half a is; it must not be in the middle."""
    distance = a["centre"][not across] - 0.5
    assert abs(distance) >= 0.0999, f"{distance:.3f} of the picture from the middle is too close to call"
    return (("left", "right") if across else ("upper", "lower"))[distance > 0]


def only(words: str, things: Sequence[Thing]) -> Thing:
    """The one thing of this description."""
    found = fitting(words, things)
    assert len(found) == 1, f"{words!r} fits {len(found)} things"
    return found[0]


def fitting(words: str, things: Sequence[Thing]) -> list[Thing]:
    """All things of this description."""
    *adjectives, noun = words.split()
    kind = noun if noun in KINDS else PLURALS.get(noun, "")
    return [
        thing
        for thing in things
        if kind in ("", thing["kind"])
        and all(a in (thing["colour"], thing["pattern"], thing["size"]) for a in adjectives)
    ]


def yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def _is_description(words: str) -> bool:
    if words in ("left", "right", "upper", "lower"):
        return True
    *adjectives, noun = words.split()
    return noun in (*KINDS, *PLURALS, "thing") and set(adjectives) <= {*COLOURS, *PATTERNS, *SIZES}
