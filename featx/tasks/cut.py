"""How many texts are longer than a model reads: told before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
SAMPLE = 20_000  # texts whose length is looked at


def cut_short(
    texts: Sequence[T], cut: Callable[[Sequence[T]], int], length: int, what: str = "texts", pieces: str = "tokens"
) -> list[str]:
    """A note when some of the texts are longer than ``length``; of a large data set, of an even sample.

    cut: how many of these are. what, pieces: what a message calls the texts, and what their length is counted in.
    """
    some = texts[:: -(-len(texts) // SAMPLE)] if texts else []
    count = cut(some) if some else 0
    if not count:
        return []
    return [f"{count / len(some):.1%} of the training {what} are longer than {length} {pieces} "
            "(model.max_length): their ends are cut"]  # fmt: skip
