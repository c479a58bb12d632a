"""Settings that a person wrote, as a frozen dataclass: every value is compared with the annotation of its field.

An annotation is bool, int, float (which takes an int), str, None, ``Literal``, ``Any``, ``Mapping``, a ``Sequence`` of
one of these or a tuple of several, ``X | Y``, ``Annotated[X, Limit(...)]``, or another such dataclass: a section.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from featx.errors import UsageError

T = TypeVar("T")
Check = tuple[Callable[[Any], bool], str]  # whether a value fits, and in words what would


@dataclass(frozen=True)
class Limit:
    """What more than its type is asked of a value, and that in words behind those of the type."""

    fits: Callable[[Any], bool]
    words: str


Count = Annotated[int, Limit(lambda value: value >= 1, "of 1 or more")]
Whole = Annotated[int, Limit(lambda value: value >= 0, "of 0 or more")]
Positive = Annotated[float, Limit(lambda value: value > 0, "above 0")]
NotNegative = Annotated[float, Limit(lambda value: value >= 0, "of 0 or more")]
Share = Annotated[float, Limit(lambda value: 0 <= value <= 1, "from 0 to 1")]
PartShare = Annotated[float, Limit(lambda value: 0 <= value < 1, "from 0 to below 1")]

_PLAIN: Mapping[Any, Check] = {
    Any: (lambda value: True, "anything"),
    NoneType: (lambda value: value is None, "nothing"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: type(value) is int, "a whole number"),
    float: (lambda value: type(value) in (int, float) and math.isfinite(value), "a number"),
    str: (lambda value: isinstance(value, str), "a text"),
    Mapping: (lambda value: isinstance(value, Mapping), "a mapping of settings"),
}


def read(kind: type[T], section: str, values: Any) -> T:
    """The settings ``values`` as a ``kind``; ``section`` is their name, empty for a whole configuration.

    A section that is there but holds nothing (None, in YAML a name with nothing behind it) has its defaults.
    Raises UsageError for a setting that ``kind`` does not have, with the one that was probably meant, and for a value
    that does not fit its annotation.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise UsageError(f"{section or 'the configuration'} is {values!r}", "expected a mapping of settings")
    hints = get_type_hints(kind, include_extras=True)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, value in values.items():
        place = f"{section}.{name}" if section else str(name)
        if name not in known:
            raise UsageError(f"{place} is not a setting", known_instead(name, known))
        given[name] = read(hints[name], place, value) if is_dataclass(hints[name]) else value
        if not is_dataclass(hints[name]):
            fit(place, value, hints[name])
    return kind(**given)


def known_instead(name: Any, known: Collection[str]) -> str:
    """The hint for a setting that is none: the known one that was probably meant, if any is near, and all of them."""
    near = get_close_matches(str(name), known, 1)
    return f"{f'did you mean {near[0]}? ' if near else ''}known are {', '.join(known)}"


def fit(name: str, value: Any, hint: Any) -> None:
    """Raise UsageError, calling the value ``name``, unless it fits the annotation ``hint``."""
    fits, words = check_of(hint)
    if not fits(value):
        raise UsageError(f"{name} is {value!r}", f"give {words} for {name}")


def check_of(hint: Any) -> Check:
    """What an annotation asks of a value."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        (fits, words), limit = check_of(inner[0]), inner[1]
        return lambda value: fits(value) and limit.fits(value), f"{words} {limit.words}"
    if kind is Literal:
        return lambda value: isinstance(value, str) and value in inner, f"one of {', '.join(inner)}"
    if kind in (Union, UnionType):
        checks = [check_of(one) for one in inner]
        return lambda value: any(fits(value) for fits, _ in checks), ", or ".join(words for _, words in checks)
    if kind is tuple:
        checks = [check_of(one) for one in inner]
        return (
            lambda value: (
                _listed(value)
                and len(value) == len(checks)
                and all(fits(one) for (fits, _), one in zip(checks, value, strict=True))
            ),
            f"a list of {len(checks)}: {', '.join(words for _, words in checks)}",
        )
    if kind is Sequence:
        fits, words = check_of(inner[0])
        return lambda value: _listed(value) and all(map(fits, value)), f"a list, each entry {words},"
    return _PLAIN[kind or hint]


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)
