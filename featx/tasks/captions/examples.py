"""What is learned from, and what is evaluated: captions, and pictures with all that is said about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from featx.clip_mbart.languages import language_of
from featx.data import Caption
from featx.tasks import corpus


@dataclass(frozen=True)
class Described:
    """A picture and everything that is said about it in one language; the first text stands for all in a batch."""

    picture: str
    language: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.texts[0]


def captions(specs: Any, split: str) -> list[Caption]:
    """The captions of all specifications, in their order. Raises UsageError, also for a language without a code."""
    found = corpus.captions(specs, split)
    for language in dict.fromkeys(caption.language for caption in found):
        language_of(language)
    return found


def described(found: Iterable[Caption]) -> list[Described]:
    """Every picture once in each language, language after language, so that a batch of them is of one."""
    texts: dict[str, dict[str, list[str]]] = {}
    for caption in found:
        texts.setdefault(caption.language, {}).setdefault(caption.picture, []).append(caption.text)
    return [
        Described(picture, language, tuple(said))
        for language, pictures in texts.items()
        for picture, said in pictures.items()
    ]
