"""What the four languages have in common: a description becomes a noun in its forms, forms go into sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featx.scenes.meaning import Phrase

Sentences = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Language:
    """code: two letters; noun: from a description to an object whose attributes are its forms; questions, captions:
    the wordings of each form of question and of caption, in which ``{0.the}`` is the form ``the`` of the first noun.
    """

    code: str
    noun: Callable[[Phrase], Any]
    questions: Sentences
    captions: Sentences

    def question(self, form: str, phrases: tuple[Phrase, ...], wording: int) -> str:
        """The question in words; ``wording`` is taken modulo the wordings that there are."""
        return self.say(self.questions[form], phrases, wording)

    def caption(self, form: str, phrases: tuple[Phrase, ...], wording: int) -> str:
        """The caption in words."""
        return self.say(self.captions[form], phrases, wording)

    def say(self, wordings: tuple[str, ...], phrases: tuple[Phrase, ...], wording: int = 0) -> str:
        """One of the wordings about these descriptions."""
        return capitalised(wordings[wording % len(wordings)].format(*map(self.noun, phrases)))


def capitalised(sentence: str) -> str:
    """The first letter large, also behind an opening mark."""
    first = next(k for k, letter in enumerate(sentence) if letter.isalpha())
    return sentence[:first] + sentence[first].upper() + sentence[first + 1 :]


def captions(where: Mapping[str, str], one: tuple[str, ...], two: tuple[str, ...], three: tuple[str, ...]) -> Sentences:
    """Captions of one, two and three things. where: the words of each relation, put in for WHERE."""
    placed = {
        f"{relation}{count}": tuple(text.replace("WHERE", words) for text in texts)
        for relation, words in where.items()
        for count, texts in ((2, two), (3, three))
    }
    return {"one": one, **placed}
