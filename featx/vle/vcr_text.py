"""The texts of VCR: objects in their names, ids of word pieces, and of each piece the object that it names.

Persons have names that suit anybody; an object that is named twice has the same name, and the same token type as its
row among those of the picture. What comes out are ids, not a text to be cut into pieces once more (which the original
does with its own pieces, so that objects and pieces can come apart).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from featx.data.vcr import VcrItem, Word
from featx.errors import UsageError

NAMES = (
    "Casey", "Riley", "Jessie", "Jackie", "Avery", "Jaime", "Peyton", "Kerry", "Jody", "Kendall", "Payton", "Skyler",
    "Frankie", "Pat", "Quinn",
)  # fmt: skip
PERSON = "person"
PLAIN = -1  # the object of a piece that names none
FIRST_TYPE = 2  # the token type of the first object of a text; the next one has the next
Cut = Callable[[str], Sequence[int]]  # a text -> the ids of its pieces, without [CLS] and [SEP]


@dataclass
class Pieces:
    """Word pieces: their ids, and the object that each names (PLAIN: none)."""

    ids: list[int]
    objects: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Pieces) -> Pieces:
        return Pieces(self.ids + other.ids, self.objects + other.objects)

    def pop(self) -> None:
        """Without the last one."""
        self.ids.pop()
        self.objects.pop()


def names_of(objects: Sequence[str], begin: int = 0) -> tuple[list[str], int]:
    """What objects are called, and where in the list of names the next picture would begin.

    The first person of a picture is the first in ``NAMES``, and so on, so that an item always reads the same. The
    original goes on from one call to the next (``begin``), so that its texts depend on what was asked before.
    """
    called = []
    for one in objects:
        if one == PERSON:
            called.append(NAMES[begin % len(NAMES)])
            begin += 1
        else:
            called.append(one)
    return called, begin % len(NAMES)


def spoken(words: Sequence[Word], names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """A text part by part, with the object that each part names: ``Riley``, `` and``, `` Casey``, `` smile``.

    Every part but the first of all begins with a space. Words with characters for private use are left out.
    """
    for place, word in enumerate(words):
        space = " " if place else ""
        if isinstance(word, str):
            if not any(unicodedata.category(letter) == "Co" for letter in word):
                yield space + word, PLAIN
            continue
        for number, one in enumerate(word):
            if number:
                yield " and", PLAIN
            yield (" " if number else space) + names[one], one


def pieces_of(words: Sequence[Word], names: Sequence[str], cut: Cut) -> Pieces:
    """The word pieces of a text."""
    found = Pieces([], [])
    for text, one in spoken(words, names):
        ids = list(cut(text))
        found += Pieces(ids, [one] * len(ids))
    return found


def answer_texts(item: VcrItem, names: Sequence[str], cut: Cut, sep: int, max_length: int) -> list[Pieces]:
    """``question [SEP] answer`` for each answer, in at most ``max_length`` - 2 pieces: room for [CLS] and [SEP].

    Of question and answer the longer one loses its last piece until both fit; all four share the question, and so
    they all lose what it loses for the longest.
    """
    question = pieces_of(item.question, names, cut)
    answers = [pieces_of(one, names, cut) for one in item.answers]
    for answer in answers:
        while len(question) + len(answer) > max_length - 3:
            (question if len(question) > len(answer) else answer).pop()
    between = Pieces([sep], [PLAIN])
    return [question + between + answer for answer in answers]


def rationale_texts(
    item: VcrItem, answer: int, names: Sequence[str], cut: Cut, sep: int, max_length: int
) -> list[Pieces]:
    """``question [SEP] answer [SEP] rationale`` for each rationale, by the answer of that number.

    A rationale loses its last piece while it is longer than question and answer together, otherwise the question,
    of which one piece is left, and then the answer: both are shared by all four.
    """
    question = pieces_of(item.question, names, cut)
    given = pieces_of(item.answers[answer], names, cut)
    rationales = [pieces_of(one, names, cut) for one in item.rationales]
    for rationale in rationales:
        while len(question) + len(given) + len(rationale) > max_length - 4:
            if len(rationale) > len(question) + len(given):
                rationale.pop()
            else:
                (question if len(question) > 1 else given).pop()
    between = Pieces([sep], [PLAIN])
    return [question + between + given + between + rationale for rationale in rationales]


def named(objects: Sequence[int], in_set_order: bool = False) -> list[int]:
    """The objects that pieces name, each once, by their numbers.

    in_set_order: in the order in which Python goes through a set, by which the original numbers them: that of the
    numbers up to 7, and another one above (40 comes before 3).
    """
    found = {one for one in objects if one != PLAIN}
    return list(found) if in_set_order else sorted(found)


def token_types(objects: Sequence[int], order: Sequence[int]) -> list[int]:
    """The token type of each piece: 0, or that of the object it names by its place in ``order``."""
    types = {one: FIRST_TYPE + place for place, one in enumerate(order)}
    return [types.get(one, 0) for one in objects]


def check_types(needed: int, known: int, what: str) -> None:
    """Raise UsageError when a text names more objects than the network has token types for."""
    if needed > known:
        raise UsageError(
            f"{what} names {needed - FIRST_TYPE} objects, and the network has {known} token types: "
            f"{max(0, known - FIRST_TYPE)} of objects",
            f"use weights with num_token_types of {needed} or more, or train with model.types: {needed}",
        )
