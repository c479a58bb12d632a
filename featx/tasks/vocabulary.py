"""The vocabulary that a section ``model`` asks for: of its own, given, or to be learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from featx.errors import UsageError

V = TypeVar("V")


def vocabulary(given: Any, begun: bool, learn: Callable[[int], V], read: Callable[[Any], V]) -> V:
    """What ``model.tokenizer`` asks for. begun: whether there are weights to start from, beside which one may stand.

    learn: of so many pieces, where it is ``{size: N}``. read: a folder or hub id, or, of None, beside the weights.
    Raises UsageError for another value, and where there is none.
    """
    if isinstance(given, Mapping):
        if set(given) != {"size"} or type(given["size"]) is not int or given["size"] < 10:
            raise UsageError(f"model.tokenizer is {dict(given)}", "give a folder, a hub id, or {size: N}")
        if begun:
            raise UsageError("model.weights with a vocabulary of their own", "leave model.tokenizer {size: N} out")
        return learn(given["size"])
    if given is None and not begun:
        raise UsageError("no vocabulary is given", "set model.tokenizer to a folder, a hub id, or {size: N}")
    return read(given)
