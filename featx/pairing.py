"""Images and the texts that are put to them, in every form in which people give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featx.errors import UsageError

_EXAMPLES = {"question": "What is this?", "text": "a red car"}


def paired(images: Any, texts: Any, name: str) -> tuple[list[Any], list[str], bool]:
    """Images and texts, one of each for every answer, and whether there was but one to begin with.

    images: one, or a list or generator of them; texts: likewise, pair by pair, or one for all. Without texts, images
    are ``{"image": ..., name: ...}``, and name is what texts are called: question, text. Raises UsageError.
    """
    several = isinstance(images, list | tuple | Iterator)
    listed = list(images) if several else [images]
    if texts is None:
        if not all(isinstance(one, Mapping) and {"image", name} <= set(one) for one in listed):
            raise UsageError(
                f"an image comes without its {name}",
                f'give image and {name}, or {{"image": ..., "{name}": ...}}',
            )
        return [one["image"] for one in listed], [stated(one[name], name) for one in listed], not several
    several = several or isinstance(texts, list | tuple | Iterator)
    given = [stated(text, name) for text in (texts if isinstance(texts, list | tuple | Iterator) else [texts])]
    count = max(len(listed), len(given))
    if {len(listed), len(given)} - {1, count}:
        raise UsageError(f"{len(listed)} images and {len(given)} {name}s", "give as many of both, or one of one")
    return (listed if len(listed) == count else listed * count,
            given if len(given) == count else given * count, not several)  # fmt: skip


def stated(text: Any, name: str) -> str:
    """The text, if it says anything. Raises UsageError."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"the {name} is {text!r}", f'give words, such as "{_EXAMPLES.get(name, "a red car")}"')
    return text


def count(name: str, value: Any) -> int:
    """A whole number of 1 or more. Raises UsageError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}", "give a whole number of 1 or more")
    return value
